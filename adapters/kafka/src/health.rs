//! Events of librdkafka's clients that are no answers: errors and logs.

use std::sync::atomic::{AtomicBool, Ordering};

use partitura_broker::telemetry::TARGET;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// The errors of a client as a whole.
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

    /// Whether TLS failed: a certificate was refused, or the other side does not use TLS.
    pub(crate) fn untrusted(&self) -> bool {
        self.untrusted.load(Ordering::Relaxed)
    }

    /// Whether the client can no longer be used.
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
        tracing::debug!(target: TARGET, %error, reason, "the client reports an error");
    }
}

/// Writes librdkafka's log. It never contains passwords.
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
