use std::collections::BTreeSet;

use async_trait::async_trait;
use partitura_broker::{Capabilities, Delayed, Error, ErrorKind, InboxAddress, Message, Producer, Receipt, Result};

use crate::process::Process;
use crate::world::State;

#[derive(Debug)]
pub(super) struct SimProducer {
    process: Process,
    capabilities: Capabilities,
}

impl SimProducer {
    pub(super) fn new(process: Process, capabilities: Capabilities) -> Self {
        Self { process, capabilities }
    }
}

#[async_trait]
impl Producer for SimProducer {
    async fn publish(&self, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        let what = batch.iter().map(|message| message.id.as_str()).collect::<Vec<_>>().join(" ");
        self.process.effect(format!("publishes {what}"), |state| state.publish(&self.capabilities, batch)).await
    }

    async fn cancel(&self, delayed: Vec<Delayed>) -> Vec<Result<bool>> {
        let what = delayed.iter().map(|delayed| delayed.id.as_str()).collect::<Vec<_>>().join(" ");
        let cancel = |state: &mut State| delayed.iter().map(|delayed| state.cancel(delayed)).collect();
        self.process.effect(format!("cancels {what}"), cancel).await
    }

    async fn reply(&self, replies: Vec<(InboxAddress, Message)>) -> Result<()> {
        self.process
            .effect(format!("replies {}", replies.len()), |state| {
                for (address, message) in replies {
                    state.admits(&message, "reply")?;
                    let rate = state.plan.lost_replies;
                    if !state.mishap(rate) {
                        state.inboxes.deliver(&address, message);
                    }
                }
                state.answer("reply")
            })
            .await
    }
}

impl State {
    /// Takes back a waiting message, and its copies. The caller may get no answer.
    fn cancel(&mut self, delayed: &Delayed) -> Result<bool> {
        let (refused, unknown) = (self.plan.refused, self.plan.unknown);
        if self.mishap(refused) {
            return Err(Error::new(ErrorKind::Disconnected, "cancel", "refused").of(&delayed.topic));
        }
        let unheard = self.mishap(unknown);
        let cancelled = if unheard && self.random.coin() { false } else { self.withdraw(delayed)? };
        self.note("broker", format_args!("takes back {}: {cancelled}", delayed.id));
        if unheard {
            return Err(Error::new(ErrorKind::OutcomeUnknown, "cancel", "no answer").of(&delayed.topic));
        }
        Ok(cancelled)
    }

    /// One result per message. After a failure on a key, the later messages of that key fail too.
    fn publish(&mut self, capabilities: &Capabilities, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        let mut failed = BTreeSet::new();
        let mut results = Vec::with_capacity(batch.len());
        let whole = batch.clone();
        for message in batch {
            let key = (message.topic.clone(), message.key.clone());
            let result = if key.1.is_some() && failed.contains(&key) {
                Err(Error::new(ErrorKind::Disconnected, "publish", "an earlier message of its key failed"))
            } else {
                self.publish_one(capabilities, message)
            };
            if result.is_err() {
                failed.insert(key);
            }
            results.push(result);
        }
        let troubles = results.iter().filter(|result| result.is_err()).count();
        (0..troubles).for_each(|_| self.trouble_with(&whole));
        results
    }

    fn publish_one(&mut self, capabilities: &Capabilities, message: Message) -> Result<Receipt> {
        capabilities.check(&message, self.wall())?;
        let (refused, unknown) = (self.plan.refused, self.plan.unknown);
        self.admits(&message, "publish")?;
        if self.mishap(refused) {
            let kind = self.random.pick(&[ErrorKind::Disconnected, ErrorKind::Throttled, ErrorKind::Timeout]);
            self.note("broker", format_args!("refuses {}", message.id));
            return Err(Error::new(kind, "publish", "refused").of(&message.topic));
        }
        if self.mishap(unknown) {
            let stored = self.random.coin();
            self.note("broker", format_args!("does not confirm {} (stored: {stored})", message.id));
            let lost = Error::new(ErrorKind::OutcomeUnknown, "publish", "no confirm in time").of(&message.topic);
            if stored {
                self.store(message, true)?;
            }
            return Err(lost);
        }
        self.store(message, true)
    }
}
