//! The contexts of librdkafka's clients: what it tells us outside of an answer.

use std::sync::atomic::{AtomicBool, Ordering};

use partitura_broker::telemetry::TARGET;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// What went wrong with a client as a whole.
#[derive(Debug, Default)]
pub(crate) struct Health {
    unauthorized: AtomicBool,
    untrusted: AtomicBool,
    fatal: AtomicBool,
}

impl Health {
    /// Whether a broker refused the credentials.
    pub(crate) fn unauthorized(&self) -> bool {
        self.unauthorized.load(Ordering::Relaxed)
    }

    /// Whether TLS failed: a certificate was refused, or the other side does not speak it.
    pub(crate) fn untrusted(&self) -> bool {
        self.untrusted.load(Ordering::Relaxed)
    }

    /// Whether the client is of no use any more.
    pub(crate) fn fatal(&self) -> bool {
        self.fatal.load(Ordering::Relaxed)
    }

    pub(crate) fn note(&self, code: Option<RDKafkaErrorCode>) {
        match code {
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed) => {
                self.unauthorized.store(true, Ordering::Relaxed);
            }
            Some(RDKafkaErrorCode::SSL) => self.untrusted.store(true, Ordering::Relaxed),
            Some(RDKafkaErrorCode::Fatal) => self.fatal.store(true, Ordering::Relaxed),
            _ => {}
        }
    }
}

impl ClientContext for Health {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.note(error.rdkafka_error_code());
        tracing::debug!(target: TARGET, %error, reason, "the client reports");
    }
}

/// librdkafka's own log. It never contains passwords.
pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(target: TARGET, facility, message);
        }
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
            tracing::warn!(target: TARGET, facility, message);
        }
        _ => tracing::debug!(target: TARGET, facility, message),
    }
}
