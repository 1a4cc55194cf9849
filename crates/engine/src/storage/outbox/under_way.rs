//! The writes and messages of this process that are under way. A partition that was lost may come back before that has
//! ended; its rows are read only then, or they would be sent twice.

use partitura_broker::{Error, ErrorKind, Partition, Result};

use super::Outbox;

/// Something of a partition is written or sent until this is dropped.
#[derive(Debug)]
pub(crate) struct UnderWay {
    outbox: Outbox,
    partition: Partition,
    term: u64,
}

impl UnderWay {
    /// How often the partition had gone elsewhere when this began.
    pub(super) fn term(&self) -> u64 {
        self.term
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.outbox.state();
        let begun = (self.partition, self.term);
        if let Some(left) = state.under_way.get_mut(&begun) {
            *left -= 1;
            if *left == 0 {
                state.under_way.remove(&begun);
            }
        }
        drop(state);
        self.outbox.0.ended.notify_waiters();
    }
}

impl Outbox {
    /// Begins to write or send something that was decided in a term of a partition.
    ///
    /// # Errors
    /// [`Fenced`](ErrorKind::Fenced): the partition went elsewhere.
    pub(crate) fn begin(&self, partition: Partition, term: u64) -> Result<UnderWay> {
        let mut state = self.state();
        if state.term(partition) != term {
            return Err(Error::new(ErrorKind::Fenced, "publish", "the partition went elsewhere").of(partition));
        }
        *state.under_way.entry((partition, term)).or_default() += 1;
        Ok(UnderWay { outbox: self.clone(), partition, term })
    }

    /// Waits until what began in earlier terms has ended.
    pub(super) async fn earlier_terms_ended(&self, partition: Partition, term: u64) {
        self.ended(|begun| (partition, 0) <= begun && begun < (partition, term)).await;
    }

    /// Waits until nothing of these partitions is written or sent, and every confirmed row is removed. A message that
    /// waits to be sent again is left to the next owner. It would also send what is being sent now, if it did not wait.
    pub(crate) async fn come_to_rest(&self, partitions: &[Partition]) {
        self.ended(|(partition, _)| partitions.contains(&partition)).await;
        self.flush().await;
    }

    /// Waits until none of these partitions and terms has anything under way.
    async fn ended(&self, awaited: impl Fn((Partition, u64)) -> bool) {
        loop {
            let ended = self.0.ended.notified();
            if !self.state().under_way.keys().copied().any(&awaited) {
                return;
            }
            ended.await;
        }
    }
}
