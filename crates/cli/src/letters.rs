//! Dead letters.

use std::collections::BTreeMap;

use partitura::{Destination, InvalidDestination};
use partitura_admin::{Admin, Letter, Letters, text};

use crate::act::{count, who};
use crate::args::{self, DeadLetters, Format};
use crate::failure::Failure;
use crate::output::Out;

pub(crate) async fn run(admin: &Admin, asked: DeadLetters, out: &mut Out<'_>) -> Result<(), Failure> {
    match asked {
        DeadLetters::List => list(admin, out).await,
        DeadLetters::Show(asked) => show(admin, &asked, out).await,
        DeadLetters::Redrive(asked) => {
            let redriven = admin.redrive(&who(), &topic(&asked.topic)?, &which(&asked)?).await?;
            count(redriven, "letters sent again", out)
        }
        DeadLetters::Edit { topic: of, message, payload } => {
            let payload = match payload.strip_prefix('@') {
                Some(file) => std::fs::read_to_string(file)
                    .map_err(|error| Failure::usage(format!("the payload cannot be read from {file}: {error}")))?,
                None => payload,
            };
            let sent = admin.redrive_edited(&who(), &topic(&of)?, &message, &payload).await?;
            count(sent, "letters sent again", out)
        }
        DeadLetters::Discard(asked) => {
            let discarded = admin.discard(&who(), &topic(&asked.topic)?, &which(&asked)?).await?;
            count(discarded, "letters discarded", out)
        }
    }
}

fn topic(text: &str) -> Result<Destination, Failure> {
    text.parse().map_err(|error: InvalidDestination| Failure::usage(error.to_string()))
}

fn which(asked: &args::Letters) -> Result<Letters, Failure> {
    match (&asked.message, asked.all) {
        (Some(id), _) => Ok(Letters::One(id.clone())),
        (None, true) => Ok(Letters::All),
        (None, false) => Err(Failure::usage("which letters? Name the id of a message, or write --all")),
    }
}

async fn list(admin: &Admin, out: &mut Out<'_>) -> Result<(), Failure> {
    let boxes = admin.all_letters().await?;
    match out.format {
        Format::Json => return out.json(&boxes),
        Format::Ids => {
            let letters = boxes.iter().flat_map(|of| &of.letters);
            return letters.map(|letter| &letter.id).try_for_each(|id| out.line(id));
        }
        Format::Table => {}
    }
    let mut rows = Vec::new();
    for of in &boxes {
        let mut reasons: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
        for letter in &of.letters {
            let (count, last) = reasons.entry(&letter.reason).or_default();
            (*count, *last) = (*count + 1, letter.at.max(*last));
        }
        for (reason, (count, last)) in reasons {
            let last = text::relative(last, admin.now());
            rows.push(vec![of.destination.to_string(), count.to_string(), last, text::line(reason, 160)]);
        }
        if let Some(error) = &of.error {
            rows.push(vec![of.destination.to_string(), "?".to_owned(), String::new(), text::line(error, 160)]);
        }
    }
    match rows.is_empty() {
        true => out.line("there are no dead letters"),
        false => out.table(&["of", "letters", "last", "reason"], &rows),
    }
}

async fn show(admin: &Admin, asked: &args::Letters, out: &mut Out<'_>) -> Result<(), Failure> {
    let letters = admin.letters(&topic(&asked.topic)?).await?;
    let is_meant = |letter: &&Letter| asked.message.as_ref().is_none_or(|id| letter.id == *id);
    let letters: Vec<&Letter> = letters.iter().filter(is_meant).collect();
    match out.format {
        Format::Json => return out.json(&letters),
        Format::Ids => return letters.iter().try_for_each(|letter| out.line(&letter.id)),
        Format::Table => {}
    }
    for letter in &letters {
        let at = text::relative(letter.at, admin.now());
        out.line(&format!("{}  {}, {} attempts", letter.id, at, letter.attempts))?;
        out.line(&format!("  reason   {}", letter.reason))?;
        if let Some(error) = &letter.error {
            out.line(&format!("  error    {error}"))?;
        }
        out.line(&format!("  payload  {}", text::line(&letter.payload, 600)))?;
    }
    match letters.is_empty() {
        true => out.line("there is no such dead letter"),
        false => Ok(()),
    }
}
