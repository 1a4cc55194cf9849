//! What consumers tell the server, in order, in the background.

use async_nats::{Client, Subject};
use bytes::Bytes;
use partitura_broker::{Result, Timestamp};
use tokio::sync::{mpsc, oneshot};

use crate::error;
use crate::link::Link;

const ACK: Bytes = Bytes::from_static(b"+ACK");
/// Still at work: do not give it to anybody else yet.
const PROGRESS: Bytes = Bytes::from_static(b"+WPI");
/// Give it to somebody else. Of shared topics only, which have no order.
const GIVE_BACK: Bytes = Bytes::from_static(b"-NAK");

/// Where a link's consumers hand in what they have to say. Unbounded, and yet bounded by credit: there is nothing to say
/// about what was not delivered.
#[derive(Debug, Clone)]
pub(crate) struct Acks(mpsc::UnboundedSender<Task>);

#[derive(Debug)]
pub(crate) enum Task {
    Say(Bytes, Vec<Subject>),
    Ask {
        subject: Subject,
        reply: Subject,
        payload: Bytes,
    },
    /// Everything before this was sent.
    Sent(oneshot::Sender<()>),
}

/// None of these waits. Where the link is lost, what was handed in is lost, too.
impl Acks {
    pub(crate) fn new(tasks: mpsc::UnboundedSender<Task>) -> Self {
        Self(tasks)
    }

    pub(crate) fn acknowledge(&self, replies: Vec<Subject>) {
        let _ = self.0.send(Task::Say(ACK, replies));
    }

    pub(crate) fn keep(&self, replies: Vec<Subject>) {
        let _ = self.0.send(Task::Say(PROGRESS, replies));
    }

    pub(crate) fn give_back(&self, replies: Vec<Subject>) {
        let _ = self.0.send(Task::Say(GIVE_BACK, replies));
    }

    /// Asks for something that comes to `reply`.
    pub(crate) fn ask(&self, subject: Subject, reply: Subject, payload: Bytes) {
        let _ = self.0.send(Task::Ask { subject, reply, payload });
    }
}

/// Sends what is handed in, until the link is lost.
pub(crate) async fn send(client: Client, mut tasks: mpsc::UnboundedReceiver<Task>) {
    while let Some(task) = tasks.recv().await {
        match task {
            Task::Sent(tell) => drop(tell.send(())),
            Task::Ask { subject, reply, payload } => {
                if client.publish_with_reply(subject, reply, payload).await.is_err() {
                    return;
                }
            }
            Task::Say(what, replies) => {
                for reply in replies {
                    if client.publish(reply, what.clone()).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// Waits until the server has taken the acknowledgement `last` and all that were handed in before.
pub(crate) async fn confirm(link: &Link, last: Subject) -> Result<()> {
    const FLUSH: &str = "flush settlements";
    let (tell, told) = oneshot::channel();
    let _ = link.acks.0.send(Task::Sent(tell));
    told.await.map_err(|error| error::disconnected(FLUSH).because(error))?;
    // Once more, and with an answer. The server takes them in order.
    let answered = link.client.request(last, ACK).await;
    answered.map(drop).map_err(|error| error::disconnected(FLUSH).because(error))
}

/// What the subject to acknowledge a delivery to says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The message's number in its stream.
    pub(crate) sequence: u64,
    /// How many times the consumer has delivered it, this time included.
    pub(crate) deliveries: u64,
    /// When it was stored, by the server's clock.
    pub(crate) stored: Timestamp,
}

impl Place {
    /// Reads `$JS.ACK.STREAM.CONSUMER.DELIVERIES.SEQUENCE.…`, with a domain and an account before the stream in the later
    /// of the two forms that the server has.
    pub(crate) fn of(reply: &str) -> Option<Self> {
        let count = reply.split('.').count();
        let mut tokens = reply.strip_prefix("$JS.ACK.")?.split('.').skip(if count >= 11 { 4 } else { 2 });
        let mut number = || tokens.next()?.parse().ok();
        let (deliveries, sequence) = (number()?, number()?);
        let (_, nanos): (u64, u64) = (number()?, number()?);
        Some(Self { deliveries, sequence, stored: Timestamp::from_millis(nanos / 1_000_000) })
    }
}

/// What to settle a message with.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) sequence: u64,
    pub(crate) reply: Subject,
    /// When the message was stored.
    pub(crate) stored: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_subject_are_read() {
        let stored = Timestamp::from_millis(1_790_230_470_084);
        let place = Some(Place { sequence: 100, deliveries: 3, stored });
        assert_eq!(Place::of("$JS.ACK.orders.billing+1.3.100.7.1790230470084404000.42"), place);
        assert_eq!(Place::of("$JS.ACK.hub.hash.orders.billing+1.3.100.7.1790230470084404000.42"), place);
        assert_eq!(Place::of("$JS.ACK._.hash.orders.billing+1.3.100.7.1790230470084404000.42.token"), place);
        for other in ["", "$JS.ACK", "$JS.ACK.a.b.c.d", "_INBOX.1"] {
            assert_eq!(Place::of(other), None, "{other}");
        }
    }
}
