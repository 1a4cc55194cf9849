use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use partitura_adapter_kit::{Claim, Claimed, Claims};
use partitura_broker::{Clock, Error, ErrorKind, Partition, Result, SubscriptionName, SystemClock, TopicName};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use crate::error;
use crate::notices::{self, Ear, Notice};
use crate::session::{Answer, Session};
use crate::template::Core;
use crate::{topology, wire};

/// How many messages are read at once.
const MOST: usize = 100;
/// How often is looked without having been told to: for what died without a word, and for what was not heard.
const LOOK: Duration = Duration::from_secs(3);

/// What the members of an ordered or shared subscription claim, or the one listener of a broadcast.
#[derive(Debug)]
pub(crate) struct Group {
    core: Arc<Core>,
    kind: Kind,
    /// One for all claims of this member. It is lost with all of them, and never revived.
    session: tokio::sync::Mutex<Option<Arc<Session>>>,
    /// The key of what this group's members say.
    beats: String,
    ear: tokio::sync::Mutex<Ear>,
    /// A listener's line exists from when it was opened, not from when it is first read.
    opened: Mutex<Option<LineClaim>>,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// A partition has one owner.
    Ordered(SubscriptionName),
    /// Single messages are competed for.
    Shared(SubscriptionName),
    /// A line of one's own.
    Listening,
}

impl Group {
    pub(crate) fn new(core: Arc<Core>, session: Session, kind: Kind, topics: &[TopicName]) -> Self {
        let first = topics.iter().min().map_or("", TopicName::as_str);
        let beats = match &kind {
            Kind::Ordered(name) | Kind::Shared(name) => format!("beat {name} {first}"),
            Kind::Listening => "listener".to_owned(),
        };
        let ear = tokio::sync::Mutex::new(core.notices.ear(&beats));
        let session = tokio::sync::Mutex::new(Some(Arc::new(session)));
        Self { core, kind, session, beats, ear, opened: Mutex::new(None) }
    }

    /// Opens a listener's line now.
    pub(crate) async fn open(&self, topic: &TopicName, ahead: usize) -> Result<()> {
        let claim = self.claim(topic, Partition(0), ahead).await?;
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(claim);
        Ok(())
    }

    async fn session(&self, operation: &'static str) -> Result<Arc<Session>> {
        let mut session = self.session.lock().await;
        if let Some(session) = session.as_ref().filter(|session| !session.has_ended()) {
            return Ok(session.clone());
        }
        Ok(session.insert(Arc::new(Session::open(&self.core.host, operation).await?)).clone())
    }
}

#[async_trait]
impl Claims for Group {
    type Claim = LineClaim;

    async fn claim(&self, topic: &TopicName, partition: Partition, ahead: usize) -> Result<LineClaim> {
        if let Some(opened) = self.opened.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Ok(opened);
        }
        let session = self.session("claim").await?;
        let lease = match &self.kind {
            Kind::Listening => Lease::open(&session, topic.as_str()).await?,
            Kind::Ordered(name) => Lease::claim(&session, topic, name, partition, true).await?,
            Kind::Shared(name) => Lease::claim(&session, topic, name, partition, false).await?,
        };
        Ok(LineClaim::new(self.core.clone(), lease, topic.clone(), ahead))
    }

    async fn say(&self, beat: Bytes) -> Result<()> {
        let text = beat.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        let (session, key) = (self.session("say").await?, self.beats.clone());
        let saying =
            session.ask("say", |connection| Box::pin(async move { notices::say(connection, &key, &text).await }));
        saying.arrive().await
    }

    async fn hear(&self) -> Result<Bytes> {
        let mut ear = self.ear.lock().await;
        loop {
            let notice = tokio::select! {
                () = self.core.host.closed() => return Err(error::closed("hear")),
                notice = ear.next() => notice,
            };
            match notice {
                Notice::Deaf => return Err(error::disconnected("hear")),
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

/// The right to a line: an advisory lock, held by the session.
#[derive(Debug)]
pub(crate) struct Lease {
    session: Arc<Session>,
    /// What is published to: a topic, or an inbox.
    address: String,
    line: i32,
    /// The key of the lock.
    owner: i64,
    is_given_up: bool,
}

impl Lease {
    /// The lock of an ordered line is the line's: only one can have it. That of a shared one is the member's own, and only says
    /// that it lives.
    async fn claim(
        session: &Arc<Session>,
        topic: &TopicName,
        name: &SubscriptionName,
        partition: Partition,
        exclusive: bool,
    ) -> Result<Self> {
        let (of, address, its) = (session.clone(), topic.to_string(), name.to_string());
        let claiming = session.ask("claim", move |connection| {
            Box::pin(async move {
                let find = "SELECT id, hashtextextended(current_schema() || ' ' || id, 0) FROM line
                            WHERE topic = $1 AND subscription = $2 AND partition = $3";
                let find = sqlx::query_as(find).bind(&address).bind(its).bind(partition.0.cast_signed());
                let Some((line, key)) = find.fetch_optional(&mut *connection).await? else { return Ok(None) };
                let owner = if exclusive { key } else { new_key() };
                let lock = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(owner);
                if !lock.fetch_one(&mut *connection).await? {
                    return Ok(Some(None));
                }
                // From here on it is unlocked when it is dropped, be it that nobody waits for it any more.
                let lease = Self { session: of, address, line, owner, is_given_up: false };
                if exclusive {
                    // Whatever a predecessor had and did not settle.
                    let free = "UPDATE message SET owner = NULL WHERE line = $1 AND owner IS NOT NULL";
                    sqlx::query(free).bind(line).execute(connection).await?;
                }
                Ok(Some(Some(lease)))
            })
        });
        match claiming.arrive().await? {
            Some(Some(lease)) => Ok(lease),
            Some(None) => {
                let message = format!("another owns partition {partition}");
                Err(Error::new(ErrorKind::Busy, "claim", message).of(topic))
            }
            None => Err(topology::no_subscription("claim", name, topic)),
        }
    }

    /// A new line, which ends with the lease: all that is published to `address` from now on.
    pub(crate) async fn open(session: &Arc<Session>, address: &str) -> Result<Self> {
        let (of, address) = (session.clone(), address.to_owned());
        let opening = session.ask("listen", move |connection| {
            Box::pin(async move {
                let owner = new_key();
                sqlx::query("SELECT pg_advisory_lock($1)").bind(owner).execute(&mut *connection).await?;
                let insert = "INSERT INTO line (topic, owner) VALUES ($1, $2) RETURNING id";
                let line = sqlx::query_scalar(insert).bind(&address).bind(owner).fetch_one(connection).await?;
                Ok(Self { session: of, address, line, owner, is_given_up: false })
            })
        });
        opening.arrive().await
    }

    /// Gives up the line, and what is held of it, once. It is asked for after every settlement, and so done after them.
    fn give_up(&mut self) -> Answer<()> {
        self.is_given_up = true;
        let (line, owner, ring) = (self.line, self.owner, notices::ring(&self.address));
        self.session.ask("release", move |connection| {
            Box::pin(async move {
                sqlx::query("SELECT give_up($1, $2)").bind(line).bind(owner).execute(&mut *connection).await?;
                let unlock = sqlx::query("SELECT pg_advisory_unlock($1)").bind(owner);
                unlock.execute(&mut *connection).await?;
                notices::say(connection, &ring, "").await
            })
        })
    }
}

impl Drop for Lease {
    /// Nothing waits here: it is asked for. If the session ends before, the server does the same.
    fn drop(&mut self) {
        if !self.is_given_up {
            drop(self.give_up());
        }
    }
}

/// Any number that nobody else has.
fn new_key() -> i64 {
    Uuid::now_v7().as_u64_pair().1.cast_signed()
}

/// A line in the hands of one member.
#[derive(Debug)]
pub(crate) struct LineClaim {
    core: Arc<Core>,
    lease: Lease,
    topic: TopicName,
    /// Hears that there is something to read.
    ear: Ear,
    /// How many messages may be held, and are.
    ahead: usize,
    held: usize,
    /// What is being read. It stays here when whoever waits for it goes away, so that nothing is lost.
    taking: Option<Answer<Taken>>,
    /// When to look again.
    look_at: Instant,
    swept: Instant,
    /// Settled, and not yet asked of the session. What is settled meanwhile goes with it.
    settled: Arc<Mutex<Vec<i64>>>,
}

/// What was read, or in how many milliseconds there will be something.
#[derive(Debug)]
struct Taken {
    messages: Vec<Claimed<i64>>,
    due_in: Option<i64>,
}

impl LineClaim {
    /// `topic` is what its messages are said to be of.
    pub(crate) fn new(core: Arc<Core>, lease: Lease, topic: TopicName, ahead: usize) -> Self {
        let (ear, now) = (core.notices.ear(&notices::ring(&lease.address)), Instant::now());
        let (held, settled) = (0, Arc::default());
        Self { core, lease, topic, ear, ahead, held, taking: None, look_at: now, swept: now, settled }
    }

    /// Asks for what is there, as far as there is room.
    fn take(&mut self, room: usize) -> Answer<Taken> {
        let Lease { line, owner, .. } = self.lease;
        let (most, topic) = (i32::try_from(room.min(MOST)).unwrap_or(i32::MAX), self.topic.clone());
        let now = Instant::now();
        let sweep = now - self.swept >= LOOK;
        if sweep {
            self.swept = now;
        }
        // What is said from here on may be about something that this does not see.
        self.ear.clear();
        self.lease.session.ask("read", move |connection| {
            Box::pin(async move {
                if sweep {
                    sqlx::query("SELECT sweep($1)").bind(line).execute(&mut *connection).await?;
                }
                take(connection, (line, owner), most, &topic).await
            })
        })
    }

    /// Waits until there is reason to look.
    async fn wait(&mut self) -> Result<()> {
        tokio::select! {
            () = self.core.host.closed() => Err(error::closed("read")),
            () = self.lease.session.ended() => Err(error::disconnected("read")),
            () = sleep_until(self.look_at) => Ok(()),
            // Whatever was said, it means the same.
            _ = self.ear.next() => Ok(()),
        }
    }
}

/// Reads the next messages. The second of the two queries is only for when there are none.
async fn take(
    connection: &mut PgConnection,
    (line, owner): (i32, i64),
    most: i32,
    topic: &TopicName,
) -> sqlx::Result<Taken> {
    // Never early: by the server's clock, and not by ours either.
    let now = wire::millis(SystemClock.now());
    let rows = sqlx::query(wire::TAKE).bind(line).bind(owner).bind(most).bind(now).fetch_all(&mut *connection).await?;
    let claimed = |row: &PgRow| {
        let partition = Partition(row.try_get::<i32, _>("partition")?.cast_unsigned());
        let (redelivered, handle) = (row.try_get("again")?, row.try_get("number")?);
        Ok(Claimed { partition, message: wire::message(topic, row)?, redelivered, handle })
    };
    let messages: Vec<_> = rows.iter().map(claimed).collect::<sqlx::Result<_>>()?;
    if !messages.is_empty() {
        return Ok(Taken { messages, due_in: None });
    }
    let query = "SELECT min(due) - least(now_in_millis(), $2) FROM message WHERE line = $1 AND place IS NULL";
    let due_in = sqlx::query_scalar(query).bind(line).bind(now).fetch_one(connection).await?;
    Ok(Taken { messages, due_in })
}

#[async_trait]
impl Claim for LineClaim {
    type Handle = i64;

    async fn next(&mut self) -> Result<Vec<Claimed<i64>>> {
        loop {
            if self.taking.is_none() {
                let room = self.ahead.saturating_sub(self.held);
                if room == 0 {
                    // Called again when something was settled.
                    self.lease.session.ended().await;
                    return Err(error::disconnected("read"));
                }
                self.wait().await?;
                self.taking = Some(self.take(room));
            }
            if let Some(taking) = &mut self.taking {
                let taken = taking.wait().await?;
                self.taking = None;
                if !taken.messages.is_empty() {
                    // There may be more.
                    self.look_at = Instant::now();
                    self.held += taken.messages.len();
                    return Ok(taken.messages);
                }
                let due_in = taken.due_in.map_or(LOOK, |millis| Duration::from_millis(millis.max(1).unsigned_abs()));
                self.look_at = Instant::now() + due_in.min(LOOK);
            }
        }
    }

    fn settle(&mut self, handles: Vec<i64>) {
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = settled.is_empty();
        self.held = self.held.saturating_sub(handles.len());
        settled.extend(handles);
        if !is_first || settled.is_empty() {
            return;
        }
        let (settled, owner) = (self.settled.clone(), self.lease.owner);
        let settling = self.lease.session.ask("settle", move |connection| {
            Box::pin(async move {
                let numbers = std::mem::take(&mut *settled.lock().unwrap_or_else(PoisonError::into_inner));
                let delete = "DELETE FROM message WHERE number = ANY ($1) AND owner = $2";
                sqlx::query(delete).bind(numbers).bind(owner).execute(connection).await.map(drop)
            })
        });
        // How it ends shows in the session.
        drop(settling);
    }

    async fn flush(&mut self) -> Result<()> {
        // Jobs are done in order, and one that fails ends the session: this one is reached only by way of all before it.
        self.lease.session.ask("flush settlements", |_| Box::pin(async { Ok(()) })).arrive().await
    }

    async fn release(mut self) -> Result<()> {
        self.lease.give_up().arrive().await
    }
}
