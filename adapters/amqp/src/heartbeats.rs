//! The heartbeats of the members of a subscription, as they come.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fe2o3_amqp::types::messaging::Body;
use fe2o3_amqp::types::messaging::annotations::{AnnotationKey, OwnedKey};
use fe2o3_amqp::types::messaging::message::DecodeIntoMessage;
use fe2o3_amqp::types::primitives::Value;
use partitura_broker::{Error, ErrorKind, Result};
use serde_amqp::read::SliceReader;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::client::{Connector, Fields, Requests, uncancelled};
use crate::error::closed;
use crate::profile::Hearing;
use crate::reader::{Attached, Reader};
use crate::wire::{self, Incoming};

const HEAR: &str = "hear the other members";
/// The number of heartbeats that are fetched in advance.
const AHEAD: usize = 256;
/// The request of Service Bus that shows messages and takes none.
const PEEK: &str = "com.microsoft:peek-message";
/// The number of heartbeats of one answer.
const MAX_PEEK: u16 = 256;
/// The wait after an answer with everything that was there.
const INTERVAL: Duration = Duration::from_millis(400);
/// The annotation of a message with its number.
const NUMBER: &str = "x-opt-sequence-number";

/// A way for heartbeats.
#[derive(Debug)]
pub(crate) enum Heartbeats {
    /// A queue that this process has.
    Read(Reader),
    /// A queue of all members, at which a task looks.
    Peeked(mpsc::UnboundedReceiver<Result<Bytes>>),
}

impl Heartbeats {
    pub(crate) async fn open(connector: Arc<Connector>, hearing: Hearing) -> Result<Self> {
        match hearing {
            Hearing::Source(source) => {
                let attaching = Attached::attach(connector, HEAR, *source, AHEAD);
                Ok(Self::Read(uncancelled(attaching).await?.read()))
            }
            Hearing::Peek { node, group } => {
                let (heard, hearing) = mpsc::unbounded_channel();
                tokio::spawn(async move {
                    // It ends with an error, or when nobody listens any more.
                    if let Err(error) = peek(&connector, &node, &group, &heard).await {
                        let _ = heard.send(Err(error));
                    }
                });
                Ok(Self::Peeked(hearing))
            }
        }
    }

    /// Waits for a heartbeat.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn next(&mut self) -> Result<Bytes> {
        match self {
            Self::Read(reader) => {
                let Some(heartbeat) = reader.next(1).await?.pop() else { return Err(closed(HEAR)) };
                reader.settle(vec![heartbeat.info]);
                Ok(wire::payload(heartbeat.message.body))
            }
            Self::Peeked(hearing) => hearing.recv().await.unwrap_or_else(|| Err(closed(HEAR))),
        }
    }
}

/// Looks at the messages of a group that come to a queue from now on, and leaves them there.
async fn peek(
    connector: &Connector,
    node: &str,
    group: &str,
    heard: &mpsc::UnboundedSender<Result<Bytes>>,
) -> Result<()> {
    let mut session = connector.session(HEAR).await?;
    let mut requests = Requests::open(&mut session, HEAR, node).await?;
    let (mut next, mut is_new) = (0, false);
    while !heard.is_closed() {
        let mut arguments = Fields::default();
        arguments.insert(text("from-sequence-number"), Value::Long(next));
        arguments.insert(text("message-count"), Value::Int(MAX_PEEK.into()));
        let found = messages(&requests.ask(connector, HEAR, PEEK, arguments).await?)?;
        // With many members there is never nothing: each look finds what came since the last one.
        let is_all = found.len() < usize::from(MAX_PEEK);
        for message in found {
            let annotations = message.message_annotations.as_ref();
            let number = annotations.and_then(|found| found.0.get(&OwnedKey::from(NUMBER) as &dyn AnnotationKey));
            let Some(Value::Long(number)) = number else { return Err(strange("a message without its number")) };
            next = next.max(number + 1);
            let is_ours =
                message.properties.as_ref().and_then(|properties| properties.group_id.as_deref()) == Some(group);
            if is_new && is_ours {
                let _ = heard.send(Ok(wire::payload(message.body)));
            }
        }
        if is_all {
            // All from before this member have been seen.
            is_new = true;
            sleep(INTERVAL).await;
        }
    }
    Ok(())
}

/// The messages of an answer. Each is in it as bytes.
fn messages(answer: &Fields) -> Result<Vec<Incoming>> {
    let list = match answer.get(&text("messages")) {
        Some(Value::List(list)) => list.as_slice(),
        _ => &[],
    };
    let message = |entry: &Value| {
        let Value::Map(entry) = entry else { return Err(strange("something else than messages")) };
        let Some(Value::Binary(bytes)) = entry.get(&text("message")) else { return Err(strange("no message")) };
        let decoded = Body::<Value>::decode_message_from_reader(SliceReader::new(bytes));
        decoded.map_err(|error| strange("a message that cannot be read").because(error))
    };
    list.iter().map(message).collect()
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn strange(what: &str) -> Error {
    Error::new(ErrorKind::Disconnected, HEAR, format!("the broker shows {what}"))
}
