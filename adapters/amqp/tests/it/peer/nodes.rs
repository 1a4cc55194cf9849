//! The state of the peer: queues, their messages, and the links to them.

use std::collections::{BTreeMap, HashMap, VecDeque};

use fe2o3_amqp::types::messaging::message::__private::{Deserializable, Serializable};
use fe2o3_amqp::types::messaging::{Body, Header, Message, MessageAnnotations};
use fe2o3_amqp::types::primitives::{SimpleValue, Value};
use tokio::sync::mpsc;

pub(crate) type Stored = Message<Body<Value>>;

/// A link of one connection, by the number of the connection, its channel and its handle.
pub(crate) type LinkId = (u64, u16, u32);

/// A queue, or a subscription of Service Bus.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// The topics whose messages it takes; `*` at the end stands for one level.
    pub(crate) topics: Vec<String>,
    /// The largest number of links that read it.
    pub(crate) max_bind: Option<usize>,
    /// Whether it gives out sessions.
    pub(crate) has_sessions: bool,
    /// Whether it goes with its reader.
    pub(crate) is_temporary: bool,
    pub(crate) messages: VecDeque<Entry>,
    /// The largest number of messages that were with readers at once.
    pub(crate) most_out: usize,
    pub(crate) readers: Vec<Reader>,
    /// The states of its sessions.
    pub(crate) states: HashMap<String, Vec<u8>>,
}

#[derive(Debug)]
pub(crate) struct Entry {
    id: u64,
    message: Stored,
    with: Option<LinkId>,
}

/// A link that reads a queue.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) link: LinkId,
    pub(crate) session: Option<String>,
    pub(crate) credit: u32,
    /// The number of messages that were sent by it.
    pub(crate) sent: u32,
    pub(crate) out: mpsc::UnboundedSender<Out>,
}

/// The work of a connection for its client.
#[derive(Debug)]
pub(crate) enum Out {
    /// Deliver a message of this number by a link.
    Deliver { channel: u16, handle: u32, id: u64, message: Vec<u8> },
    /// End a link.
    Detach { channel: u16, handle: u32, condition: &'static str },
    /// End the connection without a word.
    Cut,
}

impl Queue {
    fn takes(&self, topic: &str) -> bool {
        self.topics.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => topic.strip_prefix(start).is_some_and(|rest| !rest.contains('/')),
            None => pattern == topic,
        })
    }

    /// Whether another reader may come.
    pub(crate) fn has_room(&self, session: Option<&str>) -> bool {
        let is_locked = self.readers.iter().any(|reader| session.is_some() && reader.session.as_deref() == session);
        !is_locked && self.max_bind.is_none_or(|most| self.readers.len() < most)
    }

    /// Gives messages to readers that have credit.
    pub(crate) fn pump(&mut self) {
        for reader in &mut self.readers {
            for entry in &mut self.messages {
                if reader.credit == 0 {
                    break;
                }
                let group = entry.message.properties.as_ref().and_then(|properties| properties.group_id.as_deref());
                let is_in_session = !self.has_sessions || group == reader.session.as_deref();
                if entry.with.is_some() || !is_in_session {
                    continue;
                }
                let (_, channel, handle) = reader.link;
                let message = encode(&entry.message);
                let delivery = Out::Deliver { channel, handle, id: entry.id, message };
                if reader.out.send(delivery).is_ok() {
                    entry.with = Some(reader.link);
                    reader.credit -= 1;
                    reader.sent += 1;
                }
            }
        }
        let out = self.messages.iter().filter(|entry| entry.with.is_some()).count();
        self.most_out = self.most_out.max(out);
    }

    /// Shows the messages from a number on, each with its number.
    pub(crate) fn peek(&self, from: u64) -> Vec<Vec<u8>> {
        let shown = self.messages.iter().filter(|entry| entry.id >= from).map(|entry| {
            let number = Value::Long(i64::try_from(entry.id).expect("a small number"));
            let annotations = MessageAnnotations::builder().insert("x-opt-sequence-number", number).build();
            encode(&Stored { message_annotations: Some(annotations), ..entry.message.clone() })
        });
        shown.collect()
    }

    /// Removes a message that its reader has settled.
    pub(crate) fn settle(&mut self, id: u64) -> bool {
        let before = self.messages.len();
        self.messages.retain(|entry| entry.id != id);
        self.messages.len() < before
    }

    /// Takes the unsettled messages of links back, in their places.
    pub(crate) fn leave(&mut self, is_gone: impl Fn(&LinkId) -> bool) {
        self.readers.retain(|reader| !is_gone(&reader.link));
        for entry in &mut self.messages {
            if entry.with.as_ref().is_some_and(&is_gone) {
                entry.with = None;
                entry.message.header.get_or_insert_with(Header::default).delivery_count += 1;
            }
        }
        self.pump();
    }
}

/// The queues by name.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    pub(crate) queues: BTreeMap<String, Queue>,
    pub(crate) stored: u64,
}

impl Nodes {
    /// Stores a message where its address says. `false`: there is no such queue.
    pub(crate) fn store(&mut self, address: &str, message: Stored) -> bool {
        let topic = address.strip_prefix("topic://");
        let name = address.strip_prefix("queue://").unwrap_or(address);
        // The topics of Service Bus have subscriptions below their own names.
        let subscriptions = format!("{name}/Subscriptions/");
        let is_topic = topic.is_some() || self.queues.keys().any(|queue| queue.starts_with(&subscriptions));
        let mut found = is_topic;
        for (queue, state) in &mut self.queues {
            let takes = match topic {
                Some(topic) => state.takes(topic),
                None => queue == name || queue.starts_with(&subscriptions),
            };
            if takes {
                found = true;
                self.stored += 1;
                state.messages.push_back(Entry { id: self.stored, message: message.clone(), with: None });
                state.pump();
            }
        }
        found
    }

    /// Stores a message in a queue.
    pub(crate) fn put(&mut self, queue: &str, message: Stored) {
        self.stored += 1;
        let entry = Entry { id: self.stored, message, with: None };
        self.queues.get_mut(queue).expect("a queue").messages.push_back(entry);
    }

    /// Ends links.
    pub(crate) fn leave(&mut self, is_gone: impl Fn(&LinkId) -> bool) {
        self.queues.values_mut().for_each(|queue| queue.leave(&is_gone));
        self.queues.retain(|_, queue| !queue.is_temporary || !queue.readers.is_empty());
    }

    /// The queue that a link reads.
    pub(crate) fn read_by(&mut self, link: LinkId) -> Option<&mut Queue> {
        self.queues.values_mut().find(|queue| queue.readers.iter().any(|reader| reader.link == link))
    }
}

pub(crate) fn decode(message: &[u8]) -> Stored {
    serde_amqp::from_slice::<Deserializable<Stored>>(message).expect("a message").0
}

pub(crate) fn encode(message: &Stored) -> Vec<u8> {
    serde_amqp::to_vec(&Serializable(message.clone())).expect("a message")
}

/// An application property that is a text.
pub(crate) fn property<'a>(message: &'a Stored, name: &str) -> Option<&'a str> {
    match message.application_properties.as_ref()?.0.get(name)? {
        SimpleValue::String(text) => Some(text),
        _ => None,
    }
}
