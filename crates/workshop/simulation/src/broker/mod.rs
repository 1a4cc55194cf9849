//! A broker in memory that keeps exactly the promises of the contract. In every case that the contract leaves open it
//! does what is worst for its users.

mod consumer;
mod group;
mod inbox;
mod member;
mod producer;
mod sabotage;
mod topic;
mod transactions;

use std::time::Duration;

use async_trait::async_trait;
use partitura_broker::{
    Broker, Capabilities, Consumer, ConsumerOptions, Delay, Durability, Error, ErrorKind, Inbox, Limits, Producer,
    ProducerOptions, Result, Supports, TopicName, Topology, Transactions,
};

use self::consumer::SimConsumer;
use self::inbox::SimInbox;
use self::producer::SimProducer;
use crate::plan::StateIn;
use crate::process::Process;
use crate::world::State;

/// One process' connection to the world's broker.
#[derive(Debug)]
pub(crate) struct SimBroker {
    process: Process,
    capabilities: Capabilities,
}

impl SimBroker {
    pub(crate) fn connect(process: &Process) -> Self {
        let plan = process.world.lock().plan.clone();
        let limits = Limits::default();
        let capabilities = Capabilities {
            broker: "simulated".into(),
            durability: Durability::Replicated,
            delay: Delay { native: true, max: Duration::from_secs(10 * 365 * 86_400), lateness: Duration::ZERO },
            hold: None,
            limits: Limits { payload: plan.payload.unwrap_or(limits.payload), ..limits },
            supports: Supports {
                transactions: plan.state_in != StateIn::Store,
                cancellation: true,
                ..Supports::default()
            },
        };
        Self { process: process.clone(), capabilities }
    }

    async fn request(&self, what: &'static str) -> Result<()> {
        self.process.effect(what, |state| state.answer(what)).await
    }
}

impl State {
    /// Whether a request without effect fails.
    pub(crate) fn answer(&mut self, what: &'static str) -> Result<()> {
        let rate = self.plan.unread;
        if self.mishap(rate) {
            Err(Error::new(ErrorKind::Disconnected, what, "the connection was reset"))
        } else {
            Ok(())
        }
    }
}

#[async_trait]
impl Broker for SimBroker {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn declare(&self, topology: &Topology) -> Result<()> {
        topology.validate()?;
        self.process
            .effect(format!("declares {} topics", topology.topics.len()), |state| {
                state.answer("declare")?;
                state.declare(topology)
            })
            .await
    }

    async fn producer(&self, _: ProducerOptions) -> Result<Box<dyn Producer>> {
        self.request("opens a producer").await?;
        Ok(Box::new(SimProducer::new(self.process.clone(), self.capabilities.clone())))
    }

    async fn consumer(&self, options: ConsumerOptions) -> Result<Box<dyn Consumer>> {
        options.validate()?;
        let process = self.process.id;
        let topic = options.topics.first().map_or("", TopicName::as_str).to_owned();
        let joined = self.process.effect(format!("consumes {topic}"), |state| {
            state.answer("consume")?;
            state.join(process, &options)
        });
        // After a crash it holds nothing: its session ends with the process.
        let (member, events) = joined.await?;
        Ok(Box::new(SimConsumer::new(self.process.clone(), member, events)))
    }

    async fn inbox(&self) -> Result<Box<dyn Inbox>> {
        let process = self.process.id;
        let open = |state: &mut State| state.answer("open an inbox").map(|()| state.inboxes.open(process));
        let (address, waiting) = self.process.effect("opens an inbox", open).await?;
        Ok(Box::new(SimInbox::new(self.process.clone(), address, waiting)))
    }

    fn has_subscribers(&self, _: &TopicName) -> bool {
        // The audit listens to all of them.
        true
    }

    fn transactions(&self) -> Option<&dyn Transactions> {
        self.capabilities.supports.transactions.then_some(self)
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}
