//! Dead letters: messages that workers have given up.

use std::time::Duration;

use partitura_broker::ErrorKind;
use partitura_engine::Destination;
use partitura_lanes::{DeadLetter, DeadLetters, Redriven};
use serde::Serialize;
use serde::de::IgnoredAny;
use tokio::task::JoinSet;

use crate::admin::{Admin, within};
use crate::error::AdminError;
use crate::text;

/// How many letters of a destination are read.
const MOST: usize = 500;
/// How much of a payload is shown.
const PAYLOAD: usize = 16 * 1_024;
/// How many destinations are read at a time.
const AT_ONCE: usize = 4;
/// How long reading one may take: only one process reads at a time, and some brokers take seconds to let it in.
const LIMIT: Duration = Duration::from_secs(15);

/// The dead letters of a workflow or a service.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Letterbox {
    /// Of whom: `service/Payments`.
    pub destination: Destination,
    /// The oldest letters, up to 500.
    pub letters: Vec<Letter>,
    /// Why they could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A message that was given up.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Letter {
    /// The message's id.
    pub id: String,
    /// Its key: of a workflow's message, the id of the instance.
    pub key: Option<String>,
    /// Why it was given up.
    pub reason: String,
    /// The last error.
    pub error: Option<String>,
    /// How often it was run.
    pub attempts: u32,
    /// When it was given up, in milliseconds since the Unix epoch.
    pub at: u64,
    /// How often it was sent again before.
    pub redriven: u32,
    /// The payload as text, up to 16 KiB.
    pub payload: String,
    /// The payload is shown whole, as text: it can be edited.
    pub is_whole: bool,
}

/// Which letters of a destination are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Letters {
    /// All.
    All,
    /// That of the message with this id.
    One(String),
    /// Those that were given up for this reason.
    Of(String),
}

impl Letters {
    fn means(&self, letter: &DeadLetter) -> bool {
        match self {
            Self::All => true,
            Self::One(id) => letter.id().as_str() == id,
            Self::Of(reason) => letter.reason == *reason,
        }
    }
}

impl From<DeadLetter> for Letter {
    fn from(letter: DeadLetter) -> Self {
        let message = letter.message;
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (payload, is_cut) = text::pretty(&lossy(&message.payload), PAYLOAD);
        let is_whole = !is_cut && std::str::from_utf8(&message.payload).is_ok();
        Self {
            id: message.id.to_string(),
            key: message.key.as_deref().map(lossy),
            reason: letter.reason,
            error: letter.error,
            attempts: letter.attempts,
            at: letter.at.as_millis(),
            redriven: letter.redriven,
            payload,
            is_whole,
        }
    }
}

impl Admin {
    /// The dead letters of everybody that workers serve or have served. Where they cannot be read, it says why.
    ///
    /// # Errors
    /// [`Timeout`](AdminError::Timeout) and those of the store: who is served is not known.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn all_letters(&self) -> Result<Vec<Letterbox>, AdminError> {
        let served = self.served().await?;
        let mut boxes = Vec::with_capacity(served.len());
        for some in served.chunks(AT_ONCE) {
            let mut reading = JoinSet::new();
            for served in some {
                let (admin, destination) = (self.clone(), served.destination.clone());
                reading.spawn(async move {
                    match admin.letters(&destination).await {
                        Ok(letters) => Letterbox { destination, letters, error: None },
                        Err(error) => Letterbox { destination, letters: Vec::new(), error: Some(error.to_string()) },
                    }
                });
            }
            boxes.append(&mut reading.join_all().await);
        }
        boxes.sort_by(|one, other| one.destination.cmp(&other.destination));
        Ok(boxes)
    }

    /// The dead letters of a workflow or a service: the oldest 500.
    ///
    /// # Errors
    /// [`Timeout`](AdminError::Timeout): another process reads them; those of the broker.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn letters(&self, of: &Destination) -> Result<Vec<Letter>, AdminError> {
        let read = self.letterbox(of).await?;
        let letters = limited("read dead letters", read.list(MOST)).await?;
        Ok(letters.into_iter().map(Letter::from).collect())
    }

    /// Sends letters to their topic again, says how many, and leaves a record as [`act`](Self::act) does.
    ///
    /// # Errors
    /// [`Refused`](AdminError::Refused): there is none, or it was sent again too often; as for
    /// [`letters`](Self::letters).
    ///
    /// # Cancel safety
    /// A letter may be sent and stay; it has the same id when it is sent again.
    pub async fn redrive(&self, who: &str, of: &Destination, which: &Letters) -> Result<usize, AdminError> {
        let done = async {
            let letters = self.letterbox(of).await?;
            sent(limited("send dead letters again", letters.redrive(|letter| which.means(letter))).await?)
        };
        record(who, "redrive", of, which, done.await)
    }

    /// Sends the letter of the message `id` to its topic again with another payload, which is JSON, and leaves a record
    /// as [`act`](Self::act) does, without the payload.
    ///
    /// # Errors
    /// As for [`redrive`](Self::redrive); [`Refused`](AdminError::Refused): the text is not JSON.
    ///
    /// # Cancel safety
    /// As for [`redrive`](Self::redrive). A letter that stays has its old payload.
    pub async fn redrive_edited(&self, who: &str, of: &Destination, id: &str, json: &str) -> Result<usize, AdminError> {
        let which = Letters::One(id.to_owned());
        let done = async {
            let not_json = |error: serde_json::Error| AdminError::Refused(format!("not JSON: {error}"));
            serde_json::from_str::<IgnoredAny>(json).map_err(not_json)?;
            let payload = json.trim().to_owned();
            let letters = self.letterbox(of).await?;
            let again = letters.redrive_as(|letter| which.means(letter), |_| payload.clone().into());
            sent(limited("send a dead letter again", again).await?)
        };
        record(who, "redrive edited", of, &which, done.await)
    }

    /// Throws letters away, says how many, and leaves a record as [`act`](Self::act) does. There is no way back.
    ///
    /// # Errors
    /// [`Refused`](AdminError::Refused): there is none; as for [`letters`](Self::letters).
    ///
    /// # Cancel safety
    /// Some may be gone.
    pub async fn discard(&self, who: &str, of: &Destination, which: &Letters) -> Result<usize, AdminError> {
        let done = async {
            let letters = self.letterbox(of).await?;
            match limited("discard dead letters", letters.discard(|letter| which.means(letter))).await? {
                0 => Err(AdminError::Refused("there is no such dead letter any more".to_owned())),
                discarded => Ok(discarded),
            }
        };
        record(who, "discard", of, which, done.await)
    }

    async fn letterbox(&self, of: &Destination) -> Result<DeadLetters, AdminError> {
        within("declare a topic", async { Ok(self.partitura().declare(of).await?) }).await?;
        Ok(self.partitura().dead_letters(of)?)
    }
}

/// How many were sent.
fn sent(redriven: Redriven) -> Result<usize, AdminError> {
    match (redriven.redriven, redriven.too_often) {
        (0, 0) => Err(AdminError::Refused("there is no such dead letter any more".to_owned())),
        (0, _) => {
            Err(AdminError::Refused("it was sent again three times already: mend what fails, or discard it".to_owned()))
        }
        (redriven, _) => Ok(redriven),
    }
}

async fn limited<T>(
    what: &'static str,
    read: impl Future<Output = partitura_broker::Result<T>>,
) -> Result<T, AdminError> {
    match tokio::time::timeout(LIMIT, read).await {
        Ok(Err(error)) if error.kind() == ErrorKind::Timeout => Err(AdminError::Refused(error.to_string())),
        Ok(read) => read.map_err(AdminError::from),
        Err(_) => Err(AdminError::Timeout { what, limit: LIMIT }),
    }
}

fn record(
    who: &str,
    action: &'static str,
    of: &Destination,
    which: &Letters,
    done: Result<usize, AdminError>,
) -> Result<usize, AdminError> {
    let outcome = done.as_ref().map_or_else(ToString::to_string, |count| format!("done: {count}"));
    tracing::info!(target: "partitura::audit", who, action, topic = %of, letters = ?which, outcome);
    done
}
