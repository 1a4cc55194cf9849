use std::collections::HashMap;

use bytes::Bytes;
use partitura_broker::{Error, ErrorKind, Message, Receipt, Result, TopicName};
use tokio::sync::oneshot;

/// The results of one call of [`Producer::publish`](partitura_broker::Producer::publish), collected until the last of
/// them is there. It keeps the order of each key: after a retryable failure, no later message of that key succeeds.
#[derive(Debug)]
pub struct Batch {
    /// The lane of each message that has a key.
    lanes: Vec<Option<Lane>>,
    results: Vec<Option<Result<Receipt>>>,
    missing: usize,
    has_failed: bool,
    answer: oneshot::Sender<Vec<Result<Receipt>>>,
}

/// A topic and a key, of which the messages keep their order.
type Lane = (TopicName, Bytes);

impl Batch {
    /// Begins with no result. `answer` takes them all when they are there.
    pub fn new<'a>(
        messages: impl ExactSizeIterator<Item = &'a Message>,
        answer: oneshot::Sender<Vec<Result<Receipt>>>,
    ) -> Self {
        let missing = messages.len();
        let lanes = messages.map(|message| Some((message.topic.clone(), message.key.clone()?))).collect();
        Self { lanes, results: (0..missing).map(|_| None).collect(), missing, has_failed: false, answer }
    }

    /// The failure of an earlier message because of which this one must not be sent.
    pub fn blocked_by(&self, index: usize) -> Option<Error> {
        if !self.has_failed {
            return None;
        }
        let lane = self.lanes[index].as_ref()?;
        let earlier = self.lanes[..index].iter().zip(&self.results);
        earlier.filter(|(other, _)| other.as_ref() == Some(lane)).find_map(|(_, result)| retryable(result.as_ref()?))
    }

    /// Records a result. Returns whether it was the last.
    pub fn resolve(&mut self, index: usize, result: Result<Receipt>) -> bool {
        self.has_failed |= result.is_err();
        if self.results[index].replace(result).is_none() {
            self.missing -= 1;
        }
        self.missing == 0
    }

    /// Gives the results to the caller of `publish`.
    pub fn answer(self) {
        let mut failed: HashMap<&Lane, Error> = HashMap::new();
        let mut results = Vec::with_capacity(self.results.len());
        for (lane, result) in self.lanes.iter().zip(self.results) {
            let missing = || Err(Error::new(ErrorKind::OutcomeUnknown, "publish", "no answer came"));
            let mut result = result.unwrap_or_else(missing);
            if let Some(lane) = lane {
                if let Some(error) = failed.get(lane).filter(|_| result.is_ok()) {
                    // It was stored after a message that may not be stored. Published again after that one, it is in
                    // order.
                    result = Err(error.duplicate());
                }
                if let Some(error) = retryable(&result) {
                    failed.entry(lane).or_insert(error);
                }
            }
            results.push(result);
        }
        // The caller may have gone.
        let _ = self.answer.send(results);
    }
}

fn retryable(result: &Result<Receipt>) -> Option<Error> {
    result.as_ref().err().filter(|error| error.is_retryable()).map(Error::duplicate)
}

#[cfg(test)]
mod tests {
    use partitura_broker::Partition;

    use super::*;

    fn messages() -> Vec<Message> {
        let topic = TopicName::new("orders").expect("a name");
        let message = |key: &str| Message::new(topic.clone(), "id", "").key(key.to_owned());
        vec![message("a"), message("b"), message("a"), Message::new(topic, "id", "")]
    }

    const RECEIPT: Receipt = Receipt { partition: Partition(0) };

    fn kinds(results: Vec<Result<Receipt>>) -> Vec<Option<ErrorKind>> {
        results.into_iter().map(|result| result.err().map(|error| error.kind())).collect()
    }

    fn failing(kind: ErrorKind) -> Vec<Option<ErrorKind>> {
        let (answer, mut answered) = oneshot::channel();
        let messages = messages();
        let mut batch = Batch::new(messages.iter(), answer);
        assert!(!batch.resolve(3, Ok(RECEIPT)));
        assert!(!batch.resolve(2, Ok(RECEIPT)));
        assert!(!batch.resolve(0, Err(Error::new(kind, "publish", ""))));
        assert!(batch.resolve(1, Ok(RECEIPT)));
        batch.answer();
        kinds(answered.try_recv().expect("an answer"))
    }

    #[test]
    fn after_a_retryable_failure_later_messages_of_the_key_fail_too() {
        let lost = Some(ErrorKind::OutcomeUnknown);
        assert_eq!(failing(ErrorKind::OutcomeUnknown), [lost, None, lost, None]);
    }

    #[test]
    fn a_message_that_is_refused_for_good_does_not_affect_others() {
        let refused = Some(ErrorKind::PayloadTooLarge);
        assert_eq!(failing(ErrorKind::PayloadTooLarge), [refused, None, None, None]);
    }

    #[test]
    fn a_message_that_would_overtake_is_not_sent() {
        let (answer, _answered) = oneshot::channel();
        let messages = messages();
        let mut batch = Batch::new(messages.iter(), answer);
        batch.resolve(0, Err(Error::new(ErrorKind::Disconnected, "publish", "")));
        assert!(batch.blocked_by(1).is_none() && batch.blocked_by(3).is_none());
        assert_eq!(batch.blocked_by(2).map(|error| error.kind()), Some(ErrorKind::Disconnected));
    }
}
