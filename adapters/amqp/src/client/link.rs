//! Links: one direction, one address, within a session.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};

use fe2o3_amqp::link::receiver::CreditMode;
use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::types::messaging::{Source, Target, TerminusDurability, TerminusExpiryPolicy};
use fe2o3_amqp::types::primitives::Value;
use fe2o3_amqp::{Receiver, Sender};
use partitura_broker::Result;

use super::{Connector, answer};
use crate::error::{of_receiver, of_sender};

/// The filter by which Service Bus gives a session to a receiver, and locks it.
const SESSION_FILTER: &str = "com.microsoft:session-filter";

/// A node to read from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Node {
    /// The address. `None`: the broker makes a queue for it.
    pub(crate) address: Option<String>,
    /// The group of messages to lock and read, where a node gives out groups one by one.
    pub(crate) session: Option<String>,
    /// Whether it was there before and stays.
    pub(crate) is_durable: bool,
}

impl Node {
    /// A node that was there before and stays.
    pub(crate) fn durable(address: String) -> Self {
        Self { address: Some(address), session: None, is_durable: true }
    }

    /// A node that is gone with its reader.
    pub(crate) fn of_its_own(address: String) -> Self {
        Self { address: Some(address), session: None, is_durable: false }
    }

    fn source(self) -> Source {
        let mut source = Source::builder();
        source = match self.address {
            Some(address) => source.address(address),
            None => source.dynamic(true),
        };
        if self.is_durable {
            source = source.durable(TerminusDurability::Configuration).expiry_policy(TerminusExpiryPolicy::Never);
        }
        if let Some(session) = self.session {
            source = source.add_to_filter_using_legacy_format(SESSION_FILTER, Value::String(session));
        }
        source.build()
    }
}

/// The sending links of a session: one for each address, or one for all addresses.
#[derive(Debug)]
pub(crate) struct Senders {
    session: SessionHandle<()>,
    links: HashMap<Option<String>, Sender>,
}

impl Senders {
    pub(crate) async fn open(connector: &Connector, operation: &'static str) -> Result<Self> {
        Ok(Self { session: connector.session(operation).await?, links: HashMap::new() })
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.session.is_ended()
    }

    /// The link to an address, which is attached if it is not. `None`: the address is in each message.
    pub(crate) async fn to(&mut self, operation: &'static str, address: Option<&str>) -> Result<&mut Sender> {
        match self.links.entry(address.map(str::to_owned)) {
            Entry::Occupied(link) => Ok(link.into_mut()),
            Entry::Vacant(link) => Ok(link.insert(sender(&mut self.session, operation, address).await?)),
        }
    }
}

/// Attaches a sender. Without an address it sends to the address in each message.
pub(crate) async fn sender(
    session: &mut SessionHandle<()>,
    operation: &'static str,
    address: Option<&str>,
) -> Result<Sender> {
    let target = Target { address: address.map(str::to_owned), ..Target::default() };
    let attaching = Sender::builder().name(name()).target(target).attach(session);
    answer(operation, attaching).await?.map_err(|error| of_sender(operation, error))
}

/// Attaches a receiver, which gets nothing before it gives credit.
pub(crate) async fn receiver(session: &mut SessionHandle<()>, operation: &'static str, node: Node) -> Result<Receiver> {
    let builder = Receiver::builder().name(name()).source(node.source()).credit_mode(CreditMode::Manual);
    answer(operation, builder.attach(session)).await?.map_err(|error| of_receiver(operation, error))
}

/// A name that no other link of this process has.
fn name() -> String {
    static LINKS: AtomicU64 = AtomicU64::new(0);
    format!("link-{}", LINKS.fetch_add(1, Ordering::Relaxed))
}
