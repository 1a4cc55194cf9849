use std::collections::HashMap;

use super::members::{Id, Members};
use super::violation::Violation;
use crate::history::{History, Record, Token};

/// Checks that a consumer never holds more than its credit of each topic. One message that is larger than the credit
/// may come alone.
///
/// # Errors
/// The first delivery beyond the credit.
pub fn within_credit(history: &History) -> Result<(), Violation> {
    let mut members = Members::default();
    let mut held: HashMap<Id, HashMap<Token, (&str, usize)>> = HashMap::new();
    let mut sums: HashMap<(Id, &str), (usize, usize)> = HashMap::new();
    for entry in history.entries() {
        members.apply(entry);
        let id = |consumer: &u32| (entry.process, *consumer);
        match &entry.record {
            Record::Delivered(got) => {
                let id = id(&got.consumer);
                let Some(member) = members.get(id) else { continue };
                let (topic, size) = (got.message.topic.as_str(), got.message.size);
                held.entry(id).or_default().insert(got.token, (topic, size));
                let (count, bytes) = sums.entry((id, topic)).or_default();
                (*count, *bytes) = (*count + 1, *bytes + size);
                if *count > member.messages || (*bytes > member.bytes && *count > 1) {
                    let what = format!("{count} messages of {bytes} bytes are out, of {topic}");
                    return Err(Violation::new("within_credit", what).at(entry));
                }
            }
            Record::Settling { consumer, token } => {
                give_back(&mut held, &mut sums, id(consumer), |held| held == token);
            }
            Record::Committed { token } => {
                let owners: Vec<Id> =
                    held.iter().filter(|(_, held)| held.contains_key(token)).map(|(id, _)| *id).collect();
                owners.into_iter().for_each(|id| give_back(&mut held, &mut sums, id, |held| held == token));
            }
            Record::Releasing { consumer, partition } | Record::Lost { consumer, partition } => {
                give_back(&mut held, &mut sums, id(consumer), |held| held.partition == *partition);
            }
            _ => {}
        }
    }
    Ok(())
}

fn give_back<'h>(
    held: &mut HashMap<Id, HashMap<Token, (&'h str, usize)>>,
    sums: &mut HashMap<(Id, &'h str), (usize, usize)>,
    id: Id,
    is: impl Fn(&Token) -> bool,
) {
    let Some(held) = held.get_mut(&id) else { return };
    held.retain(|token, (topic, size)| {
        let back = is(token);
        if back && let Some((count, bytes)) = sums.get_mut(&(id, *topic)) {
            (*count, *bytes) = (*count - 1, *bytes - *size);
        }
        !back
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::Script;
    use crate::history::Sent;

    /// The credit is 3 messages or 35 bytes; a message has 10.
    fn three() -> Script {
        Script::queue(1).join(0).assigned(0, 0, 1).deliver(0, "k-1", 1).deliver(0, "k-2", 1).deliver(0, "k-3", 1)
    }

    #[test]
    fn what_is_settled_or_released_makes_room() {
        assert_eq!(within_credit(&three().settle(0, "k-2").deliver(0, "k-4", 1).done()), Ok(()));
        assert_eq!(within_credit(&three().releasing(0, 0).assigned(0, 0, 2).deliver(0, "k-4", 2).done()), Ok(()));
    }

    #[test]
    fn one_message_too_many_is_found() {
        assert!(within_credit(&three().deliver(0, "k-4", 1).done()).unwrap_err().what.contains("4 messages"));
    }

    #[test]
    fn bytes_count_and_one_large_message_may_come_alone() {
        let term = || Script::queue(1).join(0).assigned(0, 0, 1);
        let large = || Sent { size: 36, ..term().sent("k-1") };
        assert_eq!(within_credit(&term().deliver_as(0, large(), 1, false).done()), Ok(()));
        assert!(within_credit(&term().deliver_as(0, large(), 1, false).deliver(0, "k-2", 1).done()).is_err());
    }
}
