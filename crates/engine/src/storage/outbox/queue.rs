//! Messages that the broker did not take at once: sent again in order, instance by instance.

use bytes::Bytes;
use partitura_broker::{Error, ErrorKind, Expect, Message, Put, Result};

use super::row::{Aside, Kept, Origin, damaged, decode};
use super::row::{OUTBOX, REFUSED};
use super::{Outbox, Row, Sender, Unsent, lost_result, publish};
use crate::pause::Pause;
use crate::wire::{self, Command, Payloads};

impl Outbox {
    /// Whether messages of earlier turns of the instance still wait. Then these wait behind them.
    pub(super) fn joins_queue(&self, row: &Row) -> bool {
        let mut state = self.state();
        let queue = state.queues.get_mut(&row.sender);
        queue.map(|queue| queue.push_back(row.key.clone())).is_some()
    }

    /// Has a row sent by a task of its instance, which begins with what is left of it. If the partition has gone
    /// elsewhere since the `term`, it is left to the next owner.
    pub(super) fn send_later(&self, sender: Sender, term: u64, key: Bytes, unsent: Unsent) {
        let mut state = self.state();
        if state.term(sender.0) != term {
            return;
        }
        let is_new = !state.queues.contains_key(&sender);
        state.queues.entry(sender.clone()).or_default().push_back(key.clone());
        drop(state);
        if is_new {
            let outbox = self.clone();
            tokio::spawn(async move { outbox.work_off(sender, term, (key, unsent)).await });
        }
    }

    /// Sends the rows of an instance until its queue is empty, or the partition goes elsewhere.
    async fn work_off(&self, sender: Sender, term: u64, first: (Bytes, Unsent)) {
        let mut row = Some(first);
        while let Some((key, unsent)) = row {
            if let Err(error) = self.insist(&sender, term, &key, unsent).await {
                tracing::warn!(workflow = &*self.0.workflow, id = sender.1, %error, "messages are left to the next owner");
                return;
            }
            row = match self.next(&sender, term).await {
                Ok(row) => row,
                Err(error) => return tracing::error!(%error, "a row of the outbox is left to the next owner"),
            };
        }
    }

    /// The next row of a queue, whose first is done with. An empty queue is gone.
    async fn next(&self, sender: &Sender, term: u64) -> Result<Option<(Bytes, Unsent)>> {
        loop {
            let key = {
                let mut state = self.state();
                if state.term(sender.0) != term {
                    return Ok(None);
                }
                let Some(queue) = state.queues.get_mut(sender) else { return Ok(None) };
                queue.pop_front();
                let Some(key) = queue.front().cloned() else {
                    state.queues.remove(sender);
                    return Ok(None);
                };
                key
            };
            let mut pause = Pause::new();
            let found = loop {
                match self.0.store.get(OUTBOX, key.clone()).await {
                    Err(error) if error.kind() != ErrorKind::Closed => {
                        tracing::warn!(%error, ?pause, "reading a row of the outbox again");
                        pause.wait().await;
                        self.check(sender, term)?;
                    }
                    found => break found?,
                }
            };
            match found.map(|(_, value)| decode(&key, &value)) {
                Some(Ok(again)) => return Ok(Some((key, Unsent { again, ..Unsent::default() }))),
                Some(Err(error)) => {
                    tracing::error!(%error, "a row of the outbox is left as it is; the others are sent")
                }
                None => {}
            }
        }
    }

    /// Publishes until nothing is left that may succeed, sets the rest aside, and has the row removed.
    async fn insist(&self, sender: &Sender, term: u64, key: &Bytes, mut unsent: Unsent) -> Result<()> {
        let mut pause = Pause::new();
        let mut under_way = self.begin(sender.0, term)?;
        while !unsent.again.is_empty() {
            if let Some(error) = unsent.problem.take() {
                if error.kind() == ErrorKind::Closed {
                    return Err(error);
                }
                tracing::warn!(workflow = &*self.0.workflow, id = sender.1, %error, ?pause, "sending messages again");
                drop(under_way);
                pause.wait().await;
                under_way = self.begin(sender.0, term)?;
            }
            let again = std::mem::take(&mut unsent.again);
            let results = self.0.producer.publish(again.clone()).await;
            unsent.absorb(Unsent::new(again, results));
        }
        match unsent.refusal {
            None => self.sent_again(key.clone()).await,
            Some(refusal) => {
                self.set_aside(sender, term, key, &unsent.refused, &refusal).await?;
                self.0.removals.remove(key.clone(), None).await;
            }
        }
        drop(under_way);
        Ok(())
    }

    fn check(&self, (partition, id): &Sender, term: u64) -> Result<()> {
        if self.state().term(*partition) == term {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Fenced, "publish", "the partition went elsewhere").of(id))
    }

    /// Keeps what the broker refuses for good, and tells the instance.
    async fn set_aside(
        &self,
        sender: &Sender,
        term: u64,
        key: &Bytes,
        refused: &[Message],
        refusal: &Error,
    ) -> Result<()> {
        let stripped = self.0.namespace.strip(key.clone());
        let origin = Origin::parse(&self.0.workflow, &stripped).ok_or_else(|| damaged(key, "its key names no turn"))?;
        let topic = refused.first().map(|message| message.topic.as_str()).unwrap_or_default();
        let reason = format!(
            "the broker refuses {} of its messages, the first to {topic}: {refusal}\n  they are kept; once the cause is \
             mended, the instance sends them again by itself, or at once when it is resumed",
            refused.len()
        );
        tracing::error!(workflow = &*self.0.workflow, id = origin.id, "{reason}");
        let undelivered = Command::Undelivered { run: origin.run.to_owned(), reason: reason.clone() };
        let id = format!("{}.u", origin.name());
        let undelivered = wire::command(&Payloads::default(), &self.0.commands, origin.id, id, &undelivered);
        let value = wire::encode(&Aside { reason, messages: refused.iter().map(Kept::from_message).collect() });
        let aside = self.0.namespace.key(&origin.aside(&self.0.workflow));
        let put = Put { space: REFUSED, key: aside, expect: Expect::Any, value: Some(value) };
        let mut pause = Pause::new();
        loop {
            // The outbox row goes last: after a crash before that, everything is tried once more. If it is sent then,
            // the row of what was set aside goes, too.
            let kept = self.0.store.write(vec![vec![put.clone()]]).await.pop().unwrap_or_else(lost_result);
            let told = match kept {
                Ok(()) => publish(&*self.0.producer, vec![undelivered.clone()]).await,
                Err(error) => Err(error),
            };
            match told {
                // Whatever it is: nothing else of the instance is sent before.
                Err(error) if error.kind() != ErrorKind::Closed => {
                    tracing::warn!(%error, ?pause, "setting a refused message aside again");
                    pause.wait().await;
                    self.check(sender, term)?;
                }
                told => return told,
            }
        }
    }
}
