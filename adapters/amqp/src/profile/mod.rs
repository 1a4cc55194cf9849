//! The differences that AMQP 1.0 leaves open: how topics are made and found, who may read, and how long a message
//! waits. Each kind of broker has a type for its way.

mod artemis;
mod duties;
mod servicebus;
mod solace;

use std::sync::Arc;

pub(crate) use self::duties::{DECLARE, Due, Extent, Flush, Hearing, Profile, RENEWAL, Source};
pub(crate) use self::solace::commands::commands as solace_commands;
use crate::client::Connector;
use crate::options;

/// The ways of a kind of broker, which asks by this connection.
pub(crate) fn named(profile: options::Profile, connector: Arc<Connector>) -> Arc<dyn Profile> {
    match profile {
        options::Profile::Artemis => Arc::new(artemis::Artemis::new(connector)),
        options::Profile::Solace => Arc::new(solace::Solace::new(connector)),
        options::Profile::ServiceBus => Arc::new(servicebus::ServiceBus::new(connector)),
    }
}
