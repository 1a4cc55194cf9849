use std::sync::Arc;

use partitura_broker::{Error, ErrorKind, Partition, Result, SubscriptionName, TopicName};
use sqlx::Row;
use uuid::Uuid;

use crate::client::{Answer, Session};
use crate::{error, notices, topics};

/// The right to a line: an advisory lock, held by a session. The server drops it with the session.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) session: Arc<Session>,
    /// The address of messages: a topic, or an inbox.
    pub(crate) address: String,
    pub(crate) line: i32,
    /// The key of the lock, which marks messages that were read and not settled.
    pub(crate) owner: i64,
    is_given_up: bool,
}

/// A line of a durable subscription that a member wants to own.
pub(crate) struct WantedLine {
    pub(crate) topic: TopicName,
    pub(crate) subscription: SubscriptionName,
    pub(crate) partition: Partition,
    /// Whether the line has one owner at a time.
    pub(crate) is_ordered: bool,
}

impl Lease {
    /// Takes the lock of a line. The lock of an ordered line belongs to the line, so that only one member can have
    /// it. The lock for a shared line is the member's own, and only shows that the member lives.
    ///
    /// This future must not be dropped before it ends, or the lock stays with the session.
    pub(crate) async fn claim(session: Arc<Session>, wanted: WantedLine) -> Result<Self> {
        let WantedLine { topic, subscription, partition, is_ordered } = wanted;
        let claim = "SELECT id, key, pg_try_advisory_lock(key) AS is_locked FROM (
                         SELECT id, coalesce($4, hashtextextended(current_schema() || ' ' || id, 0)) AS key FROM line
                         WHERE topic = $1 AND subscription = $2 AND partition = $3) AS line";
        let claim = sqlx::query(claim)
            .bind(topic.to_string())
            .bind(subscription.to_string())
            .bind(partition.0.cast_signed())
            .bind((!is_ordered).then(new_key));
        let rows = session.ask("claim", claim).arrive().await?;
        let row = rows.first().ok_or_else(|| topics::no_subscription("claim", &subscription, &topic))?;
        let read = || Ok((row.try_get("id")?, row.try_get("key")?, row.try_get("is_locked")?));
        let (line, owner, is_locked): (_, _, bool) = read().map_err(|source| error::classify("claim", source))?;
        if !is_locked {
            let message = format!("another owns partition {partition}; trying again");
            return Err(Error::new(ErrorKind::Busy, "claim", message).of(topic));
        }
        if is_ordered {
            // Frees the messages that a previous owner had and did not settle.
            let free = "UPDATE message SET owner = NULL WHERE line = $1 AND owner IS NOT NULL";
            let freed = session.ask("claim", sqlx::query(free).bind(line)).arrive().await;
            // The session has ended, and with it the lock. Its reader could not tell that the user may not do this.
            freed.map_err(|error| error.of(&topic))?;
        }
        Ok(Self { session, address: topic.to_string(), line, owner, is_given_up: false })
    }

    /// Creates a line that ends with the lease. It gets all messages to `address` from now on.
    pub(crate) async fn open(session: Arc<Session>, address: String) -> Result<Self> {
        let owner = new_key();
        session.ask("listen", sqlx::query("SELECT pg_advisory_lock($1)").bind(owner));
        let insert = "INSERT INTO line (topic, owner) VALUES ($1, $2) RETURNING id";
        let insert = sqlx::query(insert).bind(address.clone()).bind(owner);
        let rows = session.ask("listen", insert).arrive().await?;
        let line =
            rows.first().map_or(Ok(0), |row| row.try_get(0)).map_err(|source| error::classify("listen", source))?;
        Ok(Self { session, address, line, owner, is_given_up: false })
    }

    /// Gives up the line and its messages. The requests follow those of all settlements, and are therefore carried out
    /// after them.
    pub(crate) fn give_up(&mut self) -> Answer {
        self.is_given_up = true;
        self.session.ask("release", sqlx::query("SELECT give_up($1, $2)").bind(self.line).bind(self.owner));
        let unlock = sqlx::query("SELECT pg_advisory_unlock($1)").bind(self.owner);
        let answer = self.session.ask("release", unlock);
        // Other members of the line may take the held messages.
        self.session.ask("release", notices::announce(&self.address));
        answer
    }
}

impl Drop for Lease {
    /// Asks, and waits for nothing. If the session ends before, the server gives the line up.
    fn drop(&mut self) {
        if !self.is_given_up {
            self.give_up();
        }
    }
}

/// The key of a new lock, which no other lock has.
fn new_key() -> i64 {
    Uuid::now_v7().as_u64_pair().1.cast_signed()
}
