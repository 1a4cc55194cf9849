use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use partitura_adapter_kit::{Claim, Claimed, Claims};
use partitura_broker::{Clock, Error, Partition, Result, SubscriptionName, TopicName};
use sqlx::Row;
use sqlx::postgres::PgRow;
use tokio::time::{Instant, sleep_until};

use crate::lease::Lease;
use crate::notices::{self, Ear, Notice};
use crate::session::{Answer, Session};
use crate::template::Core;
use crate::{error, wire};

/// The number of messages that are read at once.
const MOST: usize = 100;
/// The interval of looking without a notice: for owners that died, and for notices that were lost.
const LOOK: Duration = Duration::from_secs(3);

/// The claims of a member of an ordered or shared subscription, or of the one listener of a broadcast.
#[derive(Debug)]
pub(crate) struct Group {
    core: Arc<Core>,
    kind: Kind,
    /// The session of all claims of this member. All are lost with it, and it is never revived.
    session: tokio::sync::Mutex<Arc<Session>>,
    /// The key of the notices between this group's members.
    beats: String,
    ear: tokio::sync::Mutex<Ear>,
    /// A listener's line exists from the moment when it was opened, not from the first read.
    opened: Mutex<Option<LineClaim>>,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// A partition has one owner.
    Ordered(SubscriptionName),
    /// Members compete for single messages.
    Shared(SubscriptionName),
    /// A line of the listener's own.
    Listening,
}

impl Group {
    pub(crate) fn new(core: Arc<Core>, session: Arc<Session>, kind: Kind, topics: &[TopicName]) -> Self {
        let first = topics.iter().min().map_or("", TopicName::as_str);
        let beats = match &kind {
            Kind::Ordered(name) | Kind::Shared(name) => format!("beat {name} {first}"),
            Kind::Listening => "listener".to_owned(),
        };
        let ear = tokio::sync::Mutex::new(core.notices.ear(&beats));
        Self { core, kind, session: tokio::sync::Mutex::new(session), beats, ear, opened: Mutex::new(None) }
    }

    /// Opens a listener's line now.
    pub(crate) async fn open(&self, topic: &TopicName, ahead: usize) -> Result<()> {
        let claim = self.claim(topic, Partition(0), ahead).await?;
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(claim);
        Ok(())
    }

    async fn session(&self, operation: &'static str) -> Result<Arc<Session>> {
        let mut session = self.session.lock().await;
        if session.has_ended() {
            *session = Session::open(&self.core.host, operation).await?;
        }
        Ok(session.clone())
    }
}

#[async_trait]
impl Claims for Group {
    type Claim = LineClaim;

    async fn claim(&self, topic: &TopicName, partition: Partition, ahead: usize) -> Result<LineClaim> {
        if let Some(opened) = self.opened.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Ok(opened);
        }
        let (session, topic, kind) = (self.session("claim").await?, topic.clone(), self.kind.clone());
        // A task of its own ends also if no caller waits for it any more; then its lease is dropped.
        let leasing = tokio::spawn(async move {
            let lease = match kind {
                Kind::Listening => Lease::open(session, topic.to_string()).await?,
                Kind::Ordered(name) => Lease::claim(session, topic.clone(), name, partition, true).await?,
                Kind::Shared(name) => Lease::claim(session, topic.clone(), name, partition, false).await?,
            };
            Ok::<_, Error>((lease, topic))
        });
        let (lease, topic) = leasing.await.map_err(|_| error::closed("claim"))??;
        Ok(LineClaim::new(self.core.clone(), lease, topic, ahead))
    }

    async fn send_heartbeat(&self, heartbeat: Bytes) -> Result<()> {
        let text = heartbeat.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let session = self.session("tell the other members").await?;
        session.ask("tell the other members", notices::say(&self.beats, &text)).arrive().await.map(drop)
    }

    async fn next_heartbeat(&self) -> Result<Bytes> {
        let mut ear = self.ear.lock().await;
        loop {
            let notice = tokio::select! {
                () = self.core.host.closed() => return Err(error::closed("hear the other members")),
                notice = ear.next() => notice,
            };
            match notice {
                Notice::Deaf => return Err(error::disconnected("hear the other members")),
                Notice::Said(text) => match decode(&text) {
                    Some(beat) => return Ok(beat),
                    None => tracing::debug!("a beat that is none of ours"),
                },
            }
        }
    }
}

fn decode(hex: &str) -> Option<Bytes> {
    let (pairs, _) = hex.as_bytes().as_chunks::<2>();
    pairs.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// A line that one member owns.
#[derive(Debug)]
pub(crate) struct LineClaim {
    core: Arc<Core>,
    lease: Lease,
    topic: TopicName,
    /// Receives notices of new messages.
    ear: Ear,
    /// The number of messages that may be held, and the number that are held.
    ahead: usize,
    held: usize,
    /// The messages that are being read. They stay here if the waiting future is dropped, so that nothing is lost.
    taking: Option<Answer>,
    /// The time of the next look, and that of the last look for dead owners.
    look_at: Instant,
    swept: Instant,
    /// The settlements on their way, and those that are sent next, together.
    settling: Option<Answer>,
    settled: Vec<i64>,
}

impl LineClaim {
    /// `topic` is the topic of its messages for the consumer.
    pub(crate) fn new(core: Arc<Core>, lease: Lease, topic: TopicName, ahead: usize) -> Self {
        let (ear, now) = (core.notices.ear(&notices::ring_key(&lease.address)), Instant::now());
        let (taking, settling, settled) = (None, None, Vec::new());
        Self { core, lease, topic, ear, ahead, held: 0, taking, look_at: now, swept: now, settling, settled }
    }

    /// Asks for the next messages, if there is room for them.
    fn take(&mut self) -> Option<Answer> {
        let room = i32::try_from(self.ahead.saturating_sub(self.held).min(MOST)).ok().filter(|room| *room > 0)?;
        let Lease { session, line, owner, .. } = &self.lease;
        if self.swept.elapsed() >= LOOK {
            self.swept = Instant::now();
            session.ask("sweep", sqlx::query("SELECT sweep($1)").bind(*line));
        }
        // Notices from here on may be about messages that this read does not see.
        self.ear.clear();
        Some(session.ask("read", wire::take(*line, *owner, room, self.core.clock.now())))
    }

    /// Takes the messages that were read, and decides when to look again.
    fn taken(&mut self, rows: &[PgRow]) -> sqlx::Result<Vec<Claimed<i64>>> {
        let mut messages = Vec::with_capacity(rows.len());
        for row in rows {
            messages.extend(wire::claimed(&self.topic, row)?);
        }
        self.held += messages.len();
        let due_in = rows.first().map_or(Ok(None), |row| row.try_get::<Option<i64>, _>("due_in"))?;
        let due_in = due_in.map_or(LOOK, |millis| Duration::from_millis(millis.max(1).unsigned_abs()));
        // If there was a message, there may be more.
        let wait = if messages.is_empty() { due_in.min(LOOK) } else { Duration::ZERO };
        self.look_at = Instant::now() + wait;
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
async fn arrived(answer: &mut Option<Answer>) -> Result<Vec<PgRow>> {
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
    type Handle = i64;

    async fn next(&mut self) -> Result<Vec<Claimed<i64>>> {
        loop {
            let is_idle = self.taking.is_none();
            // Without room, this is called again after the next settlement.
            let has_room = self.held < self.ahead;
            tokio::select! {
                () = self.core.host.closed() => return Err(error::closed("read")),
                () = self.lease.session.ended(), if is_idle => return Err(error::disconnected("read")),
                settled = arrived(&mut self.settling) => {
                    settled?;
                    self.send_settled();
                }
                rows = arrived(&mut self.taking) => {
                    let messages = self.taken(&rows?).map_err(|source| error::of("read", source).of(&self.topic))?;
                    if !messages.is_empty() {
                        return Ok(messages);
                    }
                }
                () = sleep_until(self.look_at), if is_idle && has_room => self.taking = self.take(),
                // All notices mean the same.
                _ = self.ear.next(), if is_idle => self.look_at = Instant::now(),
            }
        }
    }

    fn settle(&mut self, handles: Vec<i64>) {
        self.held = self.held.saturating_sub(handles.len());
        self.settled.extend(handles);
        self.send_settled();
    }

    async fn flush(&mut self) -> Result<()> {
        while self.settling.is_some() {
            arrived(&mut self.settling).await?;
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
