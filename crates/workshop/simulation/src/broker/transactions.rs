use async_trait::async_trait;
use bytes::Bytes;
use partitura_broker::{Entry, Error, ErrorKind, Result, ScanRange, Space, Transactions, Unit, Version};

use super::SimBroker;
use crate::mutant::Mutant;
use crate::world::State;

#[async_trait]
impl Transactions for SimBroker {
    async fn commit(&self, units: Vec<Unit>) -> Vec<Result<()>> {
        self.process
            .effect(format!("commits {}", units.len()), |state| {
                units.into_iter().map(|unit| state.commit(unit)).collect()
            })
            .await
    }

    async fn get(&self, space: Space, key: Bytes) -> Result<Option<(Version, Bytes)>> {
        self.process
            .effect(format!("gets from {space}"), |state| {
                state.answer("get")?;
                Ok(state.read(space, key))
            })
            .await
    }

    async fn scan(&self, range: ScanRange, limit: usize) -> Result<Vec<Entry>> {
        self.process
            .effect(format!("scans {}", range.space), |state| {
                state.answer("scan")?;
                Ok(state.scan(&range, limit).into_iter().map(|entry| state.as_read(range.space, entry)).collect())
            })
            .await
    }
}

impl State {
    /// Does all of a unit, or nothing. The caller may get no answer.
    fn commit(&mut self, unit: Unit) -> Result<()> {
        let (refused, unknown) = (self.plan.refused, self.plan.unknown);
        if self.mishap(refused) {
            self.trouble_with(&unit.publish);
            return Err(Error::new(ErrorKind::Storage, "commit", "nothing was written"));
        }
        let unheard = self.mishap(unknown);
        if unheard {
            self.trouble_with(&unit.publish);
        }
        if unheard && self.random.coin() {
            return Err(Error::new(ErrorKind::OutcomeUnknown, "commit", "no answer, and nothing was written"));
        }
        self.apply(unit)?;
        if unheard {
            return Err(Error::new(ErrorKind::OutcomeUnknown, "commit", "no answer, and all was written"));
        }
        Ok(())
    }

    fn apply(&mut self, unit: Unit) -> Result<()> {
        let Unit { settle, publish, put } = unit;
        let settled_early = self.is_mutant(Mutant::SettleAtDelivery);
        let mut places = Vec::with_capacity(settle.len());
        for token in &settle {
            match self.place_of(token) {
                Some(place) => places.push(place),
                None if settled_early => {}
                None => {
                    self.note("broker", format_args!("fences member {}", token.consumer));
                    return Err(Error::new(ErrorKind::Fenced, "commit", "a delivery belongs to another by now"));
                }
            }
        }
        if let Some(error) = publish.iter().find_map(|message| self.admits(message, "commit").err()) {
            self.trouble_with(&publish);
            return Err(error);
        }
        if let Some(message) = publish.iter().find(|message| !self.topics.contains_key(&message.topic)) {
            return Err(Error::new(ErrorKind::NotFound, "commit", "there is no such topic").of(&message.topic));
        }
        if self.is_mutant(Mutant::TornUnit) && !put.is_empty() && self.random.chance(30) {
            self.note("broker", format_args!("tears a unit"));
        } else {
            self.write(&put)?;
        }
        for (group, index, out) in places {
            self.settle_place(group, index, out);
        }
        for message in publish {
            self.note("broker", format_args!("takes {}", message.id));
            self.store(message, true)?;
        }
        Ok(())
    }
}
