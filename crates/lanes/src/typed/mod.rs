//! Typed queues and streams.

mod connection;
mod envelope;
mod messaging;
mod process;
mod publish;
mod subscriber;
mod topic;

pub use self::envelope::Envelope;
pub use self::messaging::Messaging;
pub use self::process::{IntoOutcome, MessageFn, TypedHandler};
pub use self::publish::Publish;
pub use self::subscriber::{Processing, Subscriber};
pub use self::topic::{Topic, TopicBuilder};
