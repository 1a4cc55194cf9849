use async_trait::async_trait;
use partitura_broker::{AckToken, Consumer, Event, Partition, Result};

use crate::model::member::Signals;
use crate::mutant::Mutant;
use crate::process::Process;

#[derive(Debug)]
pub(super) struct SimConsumer {
    process: Process,
    member: usize,
    signals: Signals,
}

impl SimConsumer {
    pub(super) fn new(process: Process, member: usize, signals: Signals) -> Self {
        Self { process, member, signals }
    }
}

#[async_trait]
impl Consumer for SimConsumer {
    async fn next(&mut self) -> Result<Event> {
        loop {
            self.process.ready().await;
            // There is no await between taking an event and returning it.
            let look_again = {
                let mut state = self.process.world.lock();
                if let Some(event) = state.next_event(self.member) {
                    return event;
                }
                let quiet = state.now() + 60_000;
                state.look_again_at(self.member).map_or(quiet, |at| at.clamp(state.now() + 1, quiet))
            };
            tokio::select! {
                biased;
                () = self.signals.woken() => {}
                () = self.process.world.until(look_again) => {}
            }
        }
    }

    fn settle(&mut self, tokens: &[AckToken]) {
        let member = self.member;
        self.process.effect_now(format!("settles {}", tokens.len()), |state| state.send_settlements(member, tokens));
    }

    async fn flush(&mut self) -> Result<()> {
        let member = self.member;
        self.process
            .effect("flushes", |state| {
                state.answer("flush")?;
                state.settle_pending(member);
                Ok(())
            })
            .await
    }

    async fn release(&mut self, partitions: &[Partition]) -> Result<()> {
        let member = self.member;
        self.process
            .effect(format!("releases {partitions:?}"), |state| {
                state.settle_pending(member);
                state.release(member, partitions);
                state.answer("release")
            })
            .await
    }

    async fn close(self: Box<Self>) -> Result<()> {
        let member = self.member;
        self.process
            .effect("leaves", |state| {
                if !state.is_mutant(Mutant::FlushForgotten) {
                    state.settle_pending(member);
                }
                state.cuts_short(member);
                state.leave(member);
                Ok(())
            })
            .await
    }
}

impl Drop for SimConsumer {
    /// For the broker this is a crash.
    fn drop(&mut self) {
        self.process.world.lock().is_abandoned(self.member);
    }
}

impl crate::world::State {
    fn release(&mut self, member: usize, partitions: &[Partition]) {
        let group = self.members[member].group;
        for partition in partitions {
            let part = &self.groups[group].parts[partition.0 as usize];
            if part.owner == Some(member) && part.revoking {
                self.free(group, partition.0 as usize);
            }
        }
        self.balance(group);
    }

    /// The consumer is gone. If its process lives, the broker notices at once.
    fn is_abandoned(&mut self, member: usize) {
        let group = self.members[member].group;
        if self.groups[group].members.contains(&member) && !self.processes[self.members[member].process].dead {
            self.leave(member);
        }
    }
}
