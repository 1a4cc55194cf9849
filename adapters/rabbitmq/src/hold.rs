use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// For how long the server lets a delivery be held: its `consumer_timeout`, which no client can ask for. It is what the
/// options say, or less, once the server has said so when it took something away.
#[derive(Debug)]
pub(crate) struct Hold(AtomicU64);

impl Hold {
    pub(crate) fn new(told: Duration) -> Self {
        Self(AtomicU64::new(u64::try_from(told.as_millis()).unwrap_or(u64::MAX)))
    }

    /// For how long anything is held here. The server's clock begins a little before ours.
    pub(crate) fn ours(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed) / 5 * 4)
    }

    /// Takes down what the server says when it closes a channel for a delivery that was held too long.
    pub(crate) fn learn(&self, error: &lapin::Error) {
        let Some(millis) = millis_in(&error.to_string()) else { return };
        let before = self.0.fetch_min(millis, Ordering::Relaxed);
        if millis < before {
            let server = Duration::from_millis(millis);
            tracing::warn!(
                ?server,
                "the server lets a delivery be held for less than it was said to: put hold={} into the URL",
                server.as_secs()
            );
        }
    }
}

/// The server's words, since 3.8.15: `… timed out. Timeout value used: 60000 ms. …`
fn millis_in(text: &str) -> Option<u64> {
    let (_, value) = text.split_once("Timeout value used: ")?;
    value.split_once(" ms")?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use lapin::protocol::{AMQPError, AMQPSoftError};

    use super::*;

    #[test]
    fn what_the_server_says_counts_where_it_is_less() {
        let hold = Hold::new(Duration::from_secs(100));
        assert_eq!(hold.ours(), Duration::from_secs(80));
        let says = |text: &str| {
            let kind = AMQPSoftError::PRECONDITIONFAILED.into();
            hold.learn(&lapin::ErrorKind::ProtocolError(AMQPError::new(kind, text.into())).into());
            hold.ours()
        };
        let words = |millis| {
            format!(
                "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: {millis} ms. This"
            )
        };
        assert_eq!(says(&words(60_000)), Duration::from_secs(48));
        assert_eq!(says(&words(1_800_000)), Duration::from_secs(48));
        assert_eq!(says("PRECONDITION_FAILED - unknown delivery tag 7"), Duration::from_secs(48));
    }
}
