use async_trait::async_trait;
use bytes::Bytes;
use partitura_broker::{Entry, Error, ErrorKind, Put, Result, ScanRange, Space, Version};
use partitura_engine::Store;

use crate::mutant::Mutant;
use crate::process::Process;
use crate::world::State;

/// One process' connection to the world's store.
#[derive(Debug)]
pub(crate) struct SimStore(Process);

impl SimStore {
    pub(crate) fn connect(process: &Process) -> Self {
        Self(process.clone())
    }
}

#[async_trait]
impl Store for SimStore {
    async fn write(&self, groups: Vec<Vec<Put>>) -> Vec<Result<()>> {
        self.0
            .effect(format!("writes {} groups", groups.len()), |state| {
                if groups.iter().flatten().any(|put| put.space == "refused" && put.value.is_some()) {
                    state.may_die_next(self.0.id);
                }
                groups.iter().map(|group| state.write_group(group)).collect()
            })
            .await
    }

    async fn get(&self, space: Space, key: Bytes) -> Result<Option<(Version, Bytes)>> {
        self.0
            .effect(format!("gets from {space}"), |state| {
                state.answer("get")?;
                Ok(state.read(space, key))
            })
            .await
    }

    async fn scan(&self, range: ScanRange, limit: usize) -> Result<Vec<Entry>> {
        self.0
            .effect(format!("scans {}", range.space), |state| {
                state.answer("scan")?;
                Ok(state.scan(&range, limit).into_iter().map(|entry| state.as_read(range.space, entry)).collect())
            })
            .await
    }
}

impl State {
    fn write_group(&mut self, group: &[Put]) -> Result<()> {
        let (refused, unknown) = (self.plan.refused, self.plan.unknown);
        if self.mishap(refused) {
            self.trouble_with_write(group);
            if let (true, Some(first)) = (self.is_mutant(Mutant::TornWrite), group.first()) {
                self.put(first);
            }
            let kind = self.random.pick(&[ErrorKind::Storage, ErrorKind::Disconnected]);
            return Err(Error::new(kind, "write", "nothing was written"));
        }
        let unheard = self.mishap(unknown);
        if unheard {
            self.trouble_with_write(group);
        }
        if unheard && self.random.coin() {
            return Err(Error::new(ErrorKind::OutcomeUnknown, "write", "no answer, and nothing was written"));
        }
        self.write(group)?;
        if unheard {
            return Err(Error::new(ErrorKind::OutcomeUnknown, "write", "no answer, and all was written"));
        }
        Ok(())
    }
}
