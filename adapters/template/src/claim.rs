use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use partitura_adapter_kit::{Claim, Claimed};
use partitura_broker::{Clock, Result, TopicName};
use sqlx::Row;
use sqlx::postgres::PgRow;
use tokio::time::{Instant, sleep_until};

use crate::client::Answer;
use crate::core::Core;
use crate::lease::Lease;
use crate::notices::{NoticeReceiver, Notices};
use crate::wire::{Amount, Handle};
use crate::{error, names, topics, wire};

/// The largest number of messages that are read at once.
const MAX_READ: usize = 100;
/// The interval of reads without a notice: for messages of owners that died, and for notices that were lost.
const POLL_INTERVAL: Duration = Duration::from_secs(3);

/// A line that one member owns.
#[derive(Debug)]
pub(crate) struct LineClaim {
    core: Arc<Core>,
    lease: Lease,
    topic: TopicName,
    /// Receives notices of new messages.
    notices: NoticeReceiver,
    /// The messages that may be held, given out or not, and those that are held. The last one that is read may be larger
    /// than the rest of the room.
    ahead: Amount,
    held: Amount,
    /// The messages that are being read. They stay here if the waiting future is dropped, so that nothing is lost.
    reading: Option<Answer>,
    /// The time of the next read, and that of the last search for dead owners, which may be under way.
    read_at: Instant,
    swept: Instant,
    sweeping: Option<Answer>,
    /// The settlements that are under way, and those that are sent next, together.
    settling: Option<Answer>,
    settled: Vec<i64>,
}

impl LineClaim {
    /// The consumer gets the messages as messages of `topic`.
    pub(crate) fn new(core: Arc<Core>, notices: &Notices, lease: Lease, topic: TopicName, ahead: Amount) -> Self {
        let (notices, now) = (notices.receiver(&names::message_notices(&lease.address)), Instant::now());
        let (reading, sweeping, settling, settled) = (None, None, None, Vec::new());
        let (held, read_at, swept) = (Amount::default(), now, now);
        Self { core, lease, topic, notices, ahead, held, reading, read_at, swept, sweeping, settling, settled }
    }

    /// The messages that may be read at once; `None` until some are settled.
    fn room(&self) -> Option<Amount> {
        let messages = self.ahead.messages.saturating_sub(self.held.messages).min(MAX_READ);
        let bytes = self.ahead.bytes.saturating_sub(self.held.bytes);
        (messages > 0 && bytes > 0).then_some(Amount { messages, bytes })
    }

    /// Asks for the next messages, if there is room for them.
    fn read(&mut self) -> Option<Answer> {
        let room = self.room()?;
        let Lease { session, line, owner, .. } = &self.lease;
        if self.swept.elapsed() >= POLL_INTERVAL {
            self.swept = Instant::now();
            // No row is the answer of a line that an operator has deleted, with its topic. There may be another line of
            // that topic by now, which has the messages.
            let sweep = sqlx::query("SELECT sweep(id) FROM line WHERE id = $1").bind(*line);
            self.sweeping = Some(session.ask("sweep", sweep));
        }
        // Notices from here on may be about messages that this read does not see.
        self.notices.clear();
        Some(session.ask("read", wire::take(*line, *owner, room, self.core.clock.now())))
    }

    /// Accepts the messages that were read, and decides when to read again.
    fn accept(&mut self, rows: &[PgRow]) -> sqlx::Result<Vec<Claimed<Handle>>> {
        let mut messages = Vec::with_capacity(rows.len());
        for row in rows {
            messages.extend(wire::claimed(&self.topic, row)?);
        }
        self.held.messages += messages.len();
        self.held.bytes += messages.iter().map(|claimed| claimed.handle.bytes).sum::<usize>();
        let due_in = rows.first().map_or(Ok(None), |row| row.try_get::<Option<i64>, _>("due_in"))?;
        let due_in = due_in.map_or(POLL_INTERVAL, |millis| Duration::from_millis(millis.max(1).unsigned_abs()));
        // If there was a message, there may be more.
        let wait = if messages.is_empty() { due_in.min(POLL_INTERVAL) } else { Duration::ZERO };
        self.read_at = Instant::now() + wait;
        Ok(messages)
    }

    /// Asks to delete the settled messages, one statement at a time.
    fn send_settled(&mut self) {
        if self.settling.is_none() && !self.settled.is_empty() {
            let delete = "DELETE FROM message WHERE number = ANY ($1) AND owner = $2";
            let delete = sqlx::query(delete).bind(std::mem::take(&mut self.settled)).bind(self.lease.owner);
            self.settling = Some(self.lease.session.ask("settle", delete));
        }
    }
}

/// Waits for an answer that may be under way. Dropping the future loses nothing.
async fn arrival(answer: &mut Option<Answer>) -> Result<Vec<PgRow>> {
    match answer {
        Some(pending) => {
            let rows = pending.wait().await;
            *answer = None;
            rows
        }
        None => std::future::pending().await,
    }
}

#[async_trait]
impl Claim for LineClaim {
    type Handle = Handle;

    async fn next(&mut self) -> Result<Vec<Claimed<Handle>>> {
        loop {
            let is_idle = self.reading.is_none();
            // Without room, this is called again after the next settlement.
            let has_room = self.room().is_some();
            tokio::select! {
                () = self.core.client.closed() => return Err(error::closed("read")),
                () = self.lease.session.ended(), if is_idle => return Err(error::disconnected("read")),
                settled = arrival(&mut self.settling) => {
                    settled?;
                    self.send_settled();
                }
                swept = arrival(&mut self.sweeping) => if swept?.is_empty() {
                    return Err(topics::deleted("read", &self.topic));
                },
                rows = arrival(&mut self.reading) => {
                    let accepted = self.accept(&rows?);
                    let messages = accepted.map_err(|source| error::classify("read", source).of(&self.topic))?;
                    if !messages.is_empty() {
                        return Ok(messages);
                    }
                }
                () = sleep_until(self.read_at), if is_idle && has_room => self.reading = self.read(),
                // All notices mean the same.
                _ = self.notices.next(), if is_idle => self.read_at = Instant::now(),
            }
        }
    }

    fn settle(&mut self, handles: Vec<Handle>) {
        for Handle { number, bytes } in handles {
            self.held.messages = self.held.messages.saturating_sub(1);
            self.held.bytes = self.held.bytes.saturating_sub(bytes);
            self.settled.push(number);
        }
        self.send_settled();
    }

    async fn flush(&mut self) -> Result<()> {
        while self.settling.is_some() {
            arrival(&mut self.settling).await?;
            self.send_settled();
        }
        Ok(())
    }

    async fn release(mut self) -> Result<()> {
        let flushed = self.flush().await;
        self.lease.give_up().arrive().await?;
        flushed
    }
}
