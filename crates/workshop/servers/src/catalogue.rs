//! The software of each kind.

use crate::kind::Kind;
use crate::software::Software;
use crate::{artemis, kafka, nats, postgres, pulsar, rabbitmq};

impl Kind {
    pub(crate) fn software(self) -> &'static dyn Software {
        match self {
            Self::Artemis => &artemis::Artemis,
            Self::Kafka => &kafka::Kafka,
            Self::Pulsar => &pulsar::Pulsar,
            Self::Rabbitmq => &rabbitmq::Rabbitmq,
            Self::Nats => &nats::Nats,
            Self::Postgres => &postgres::Postgres,
        }
    }
}
