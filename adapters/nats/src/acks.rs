//! The messages of consumers to the server, which a task sends in order, in the background.

use async_nats::{Client, Subject};
use bytes::Bytes;
use partitura_broker::{Result, Timestamp};
use tokio::sync::{mpsc, oneshot};

use crate::error;

const ACK: Bytes = Bytes::from_static(b"+ACK");
/// The message is being worked on: do not deliver it to another member yet.
const IN_PROGRESS: Bytes = Bytes::from_static(b"+WPI");
/// Deliver the message to another member. Only for shared topics, which have no order.
const GIVE_BACK: Bytes = Bytes::from_static(b"-NAK");

/// The queue of the messages of one connection's consumers. It has no bound of its own: credit bounds it, since a
/// consumer has nothing to send about a message that was not delivered.
#[derive(Debug, Clone)]
pub(crate) struct Acks(mpsc::UnboundedSender<Task>);

#[derive(Debug)]
pub(crate) enum Task {
    /// Send the same payload to several subjects.
    Send {
        payload: Bytes,
        to: Vec<Subject>,
    },
    Request {
        subject: Subject,
        reply: Subject,
        payload: Bytes,
    },
    /// Tell that everything before this was sent.
    Barrier(oneshot::Sender<()>),
}

/// None of these waits, except for [`confirm`](Self::confirm). If the connection is lost, so are the queued messages.
impl Acks {
    pub(crate) fn new(tasks: mpsc::UnboundedSender<Task>) -> Self {
        Self(tasks)
    }

    pub(crate) fn acknowledge(&self, replies: Vec<Subject>) {
        let _ = self.0.send(Task::Send { payload: ACK, to: replies });
    }

    pub(crate) fn in_progress(&self, replies: Vec<Subject>) {
        let _ = self.0.send(Task::Send { payload: IN_PROGRESS, to: replies });
    }

    pub(crate) fn give_back(&self, replies: Vec<Subject>) {
        let _ = self.0.send(Task::Send { payload: GIVE_BACK, to: replies });
    }

    /// Sends a request. Its answer comes to `reply`.
    pub(crate) fn request(&self, subject: Subject, reply: Subject, payload: Bytes) {
        let _ = self.0.send(Task::Request { subject, reply, payload });
    }

    /// Waits until the server has taken the acknowledgement `last`, and all that were queued before it.
    pub(crate) async fn confirm(&self, client: &Client, last: Subject) -> Result<()> {
        const FLUSH: &str = "flush settlements";
        let (tell, told) = oneshot::channel();
        let _ = self.0.send(Task::Barrier(tell));
        told.await.map_err(|error| error::disconnected(FLUSH).because(error))?;
        // Sent once more, with an answer. The server takes acknowledgements in order.
        let answered = client.request(last, ACK).await;
        answered.map(drop).map_err(|error| error::disconnected(FLUSH).because(error))
    }
}

/// The acknowledgements of one claim of which the server has confirmed none yet.
#[derive(Debug, Default)]
pub(crate) struct Unconfirmed(Option<Subject>);

impl Unconfirmed {
    /// Queues acknowledgements.
    pub(crate) fn acknowledge(&mut self, acks: &Acks, replies: Vec<Subject>) {
        if let Some(last) = replies.last() {
            self.0 = Some(last.clone());
            acks.acknowledge(replies);
        }
    }

    /// Waits until the server has taken them all.
    pub(crate) async fn flush(&mut self, acks: &Acks, client: &Client) -> Result<()> {
        if let Some(last) = &self.0 {
            acks.confirm(client, last.clone()).await?;
            self.0 = None;
        }
        Ok(())
    }
}

/// Sends the queued messages, until the connection is lost.
pub(crate) async fn send(client: Client, mut tasks: mpsc::UnboundedReceiver<Task>) {
    while let Some(task) = tasks.recv().await {
        match task {
            Task::Barrier(tell) => drop(tell.send(())),
            Task::Request { subject, reply, payload } => {
                if client.publish_with_reply(subject, reply, payload).await.is_err() {
                    return;
                }
            }
            Task::Send { payload, to } => {
                for subject in to {
                    if client.publish(subject, payload.clone()).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// The place of a delivery, as the subject to acknowledge it to says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The message's number in its stream.
    pub(crate) sequence: u64,
    /// The number of times that the consumer has delivered it, this time included.
    pub(crate) deliveries: u64,
    /// The moment at which it was stored, by the server's clock.
    pub(crate) stored: Timestamp,
}

impl Place {
    /// Reads `$JS.ACK.STREAM.CONSUMER.DELIVERIES.SEQUENCE.…`. In the later of the server's two forms, a domain and an
    /// account come before the stream.
    pub(crate) fn parse(reply: &str) -> Option<Self> {
        let count = reply.split('.').count();
        let mut tokens = reply.strip_prefix("$JS.ACK.")?.split('.').skip(if count >= 11 { 4 } else { 2 });
        let mut number = || tokens.next()?.parse().ok();
        let (deliveries, sequence) = (number()?, number()?);
        let (_, nanos): (u64, u64) = (number()?, number()?);
        Some(Self { deliveries, sequence, stored: Timestamp::from_millis(nanos / 1_000_000) })
    }
}

/// The value by which a message is settled.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) sequence: u64,
    pub(crate) reply: Subject,
    /// The moment at which the message was stored.
    pub(crate) stored: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_subject_are_read() {
        let stored = Timestamp::from_millis(1_790_230_470_084);
        let place = Some(Place { sequence: 100, deliveries: 3, stored });
        assert_eq!(Place::parse("$JS.ACK.orders.billing+1.3.100.7.1790230470084404000.42"), place);
        assert_eq!(Place::parse("$JS.ACK.hub.hash.orders.billing+1.3.100.7.1790230470084404000.42"), place);
        assert_eq!(Place::parse("$JS.ACK._.hash.orders.billing+1.3.100.7.1790230470084404000.42.token"), place);
        for other in ["", "$JS.ACK", "$JS.ACK.a.b.c.d", "_INBOX.1"] {
            assert_eq!(Place::parse(other), None, "{other}");
        }
    }
}
