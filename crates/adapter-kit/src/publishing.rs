//! Publishing by one task for each producer, which carries the calls out in their order.

use std::collections::HashMap;
use std::time::Duration;

use partitura_broker::{Error, ErrorKind, Message, Ordering, Partition, Receipt, Result, partition_of};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::batch::Batch;

/// The number of calls in the queue of the task. Further calls wait for a place in it, in order.
const MAX_CALLS: usize = 16;

/// Hands the calls of [`Producer::publish`](partitura_broker::Producer::publish) to the task that carries them out. So
/// dropping a call reorders nothing.
#[derive(Debug)]
pub struct PublishQueue<M> {
    calls: mpsc::Sender<PublishCall<M>>,
}

/// A call, with messages in the form that the adapter publishes.
#[derive(Debug)]
pub struct PublishCall<M> {
    /// The messages, in their order.
    pub messages: Vec<M>,
    /// Takes a result for each message.
    pub answer: oneshot::Sender<Vec<Result<Receipt>>>,
}

impl<M> PublishQueue<M> {
    /// A queue, and the end of it that belongs to the task.
    pub fn new() -> (Self, mpsc::Receiver<PublishCall<M>>) {
        let (calls, received) = mpsc::channel(MAX_CALLS);
        (Self { calls }, received)
    }

    /// Queues a call, and waits for its results.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed) for each message, if the task has ended.
    ///
    /// # Cancel safety
    /// Safe: a call that is in the queue is carried out.
    pub async fn publish(&self, messages: Vec<M>) -> Vec<Result<Receipt>> {
        let count = messages.len();
        let closed = || Err(Error::new(ErrorKind::Closed, "publish", "this broker was closed; connect again"));
        let (answer, answered) = oneshot::channel();
        // Senders are served in the order in which they began to wait.
        if self.calls.send(PublishCall { messages, answer }).await.is_err() {
            return (0..count).map(|_| closed()).collect();
        }
        answered.await.unwrap_or_else(|_| (0..count).map(|_| closed()).collect())
    }
}

/// The calls of which results are missing, by number.
#[derive(Debug, Default)]
pub struct OpenCalls {
    batches: HashMap<u64, Batch>,
    next: u64,
}

impl OpenCalls {
    /// Begins a call with these messages, and returns its number. `None`: it has none, and is answered.
    pub fn begin<'a>(
        &mut self,
        messages: impl ExactSizeIterator<Item = &'a Message>,
        answer: oneshot::Sender<Vec<Result<Receipt>>>,
    ) -> Option<u64> {
        let is_empty = messages.len() == 0;
        let batch = Batch::new(messages, answer);
        if is_empty {
            batch.answer();
            return None;
        }
        let number = self.next;
        self.next += 1;
        self.batches.insert(number, batch);
        Some(number)
    }

    /// As [`Batch::blocked_by`].
    pub fn blocked_by(&self, call: u64, index: usize) -> Option<Error> {
        self.batches.get(&call)?.blocked_by(index)
    }

    /// Records a result. The last one of a call answers it.
    pub fn resolve(&mut self, call: u64, index: usize, result: Result<Receipt>) {
        let last = self.batches.get_mut(&call).is_some_and(|batch| batch.resolve(index, result));
        if last && let Some(batch) = self.batches.remove(&call) {
            batch.answer();
        }
    }
}

/// Chooses the partitions of messages: by their keys, and by turns for those without a key.
#[derive(Debug, Default)]
pub struct Partitioner {
    next: u32,
}

impl Partitioner {
    /// The partition of the next message.
    pub fn partition(&mut self, message: &Message, ordering: Ordering) -> Partition {
        match (&message.key, ordering) {
            (Some(key), Ordering::ByKey { partitions }) => partition_of(key, partitions),
            (None, Ordering::ByKey { partitions }) => {
                self.next = self.next.wrapping_add(1);
                Partition(self.next % partitions)
            }
            (_, Ordering::Shared) => Partition(0),
        }
    }
}

/// Counts the publishers of a broker that have not ended.
#[derive(Debug, Default)]
pub struct Publishers(watch::Sender<usize>);

impl Publishers {
    /// Counts a publisher until the guard is dropped.
    pub fn enter(&self) -> PublisherGuard {
        self.0.send_modify(|count| *count += 1);
        PublisherGuard(self.0.clone())
    }

    /// Waits until all have ended, but no longer than this.
    ///
    /// # Cancel safety
    /// Safe: it changes nothing.
    pub async fn all_ended(&self, within: Duration) {
        let mut count = self.0.subscribe();
        let _ = timeout(within, count.wait_for(|count| *count == 0)).await;
    }
}

/// A publisher that has not ended.
#[derive(Debug)]
pub struct PublisherGuard(watch::Sender<usize>);

impl Drop for PublisherGuard {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use partitura_broker::TopicName;

    use super::*;

    fn message() -> Message {
        Message::new(TopicName::new("orders").expect("a name"), "id", "")
    }

    #[tokio::test]
    async fn a_call_is_answered_with_its_last_result() {
        let (queue, mut received) = PublishQueue::new();
        let task = async {
            let mut open = OpenCalls::default();
            let PublishCall { messages, answer } = received.recv().await.expect("a call");
            let call = open.begin(messages.iter(), answer).expect("it has messages");
            for index in 0..2 {
                open.resolve(call, index, Ok(Receipt { partition: Partition(0) }));
            }
        };
        let (results, ()) = tokio::join!(queue.publish(vec![message(), message()]), task);
        assert!(results.len() == 2 && results.iter().all(Result::is_ok), "{results:?}");
    }

    #[tokio::test]
    async fn a_call_without_messages_is_answered_at_once() {
        let (answer, answered) = oneshot::channel();
        assert_eq!(OpenCalls::default().begin([].iter(), answer), None);
        assert!(answered.await.expect("an answer").is_empty());
    }

    #[tokio::test]
    async fn once_the_task_has_ended_every_message_is_refused() {
        let (queue, received) = PublishQueue::new();
        drop(received);
        let results = queue.publish(vec![message()]).await;
        assert!(matches!(&results[..], [Err(error)] if error.kind() == ErrorKind::Closed), "{results:?}");
    }

    #[test]
    fn messages_without_a_key_take_turns() {
        let (mut partitioner, ordering) = (Partitioner::default(), Ordering::ByKey { partitions: 2 });
        let partitions: Vec<_> = (0..4).map(|_| partitioner.partition(&message(), ordering).0).collect();
        assert_eq!(partitions, [1, 0, 1, 0]);
        assert_eq!(partitioner.partition(&message(), Ordering::Shared), Partition(0));
    }

    #[tokio::test(start_paused = true)]
    async fn closing_waits_for_publishers() {
        let publishers = Publishers::default();
        let guard = publishers.enter();
        let long = Duration::from_secs(10);
        let end = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(guard);
        };
        let began = tokio::time::Instant::now();
        tokio::join!(publishers.all_ended(long), end);
        assert_eq!(began.elapsed(), Duration::from_secs(1));
    }
}
