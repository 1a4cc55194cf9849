//! Links: one direction, one address, within a session.

use std::sync::atomic::{AtomicU64, Ordering};

use fe2o3_amqp::link::receiver::CreditMode;
use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::types::messaging::{Source, Target};
use fe2o3_amqp::{Receiver, Sender};
use partitura_broker::Result;

use super::answer;
use crate::error::{of_receiver, of_sender};

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

/// Attaches a receiver, which gets nothing before it gives credit. Without an address, the broker makes a queue for it.
pub(crate) async fn receiver(
    session: &mut SessionHandle<()>,
    operation: &'static str,
    address: Option<&str>,
) -> Result<Receiver> {
    let source = match address {
        Some(address) => Source::builder().address(address).build(),
        None => Source::builder().dynamic(true).build(),
    };
    let attaching = Receiver::builder().name(name()).source(source).credit_mode(CreditMode::Manual).attach(session);
    answer(operation, attaching).await?.map_err(|error| of_receiver(operation, error))
}

/// A name that no other link of this process has.
fn name() -> String {
    static LINKS: AtomicU64 = AtomicU64::new(0);
    format!("link-{}", LINKS.fetch_add(1, Ordering::Relaxed))
}
