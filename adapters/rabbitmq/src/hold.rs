use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The time for which the server lets a delivery be held: its `consumer_timeout`, which no client can ask for. The
/// options have it. It becomes less when the server takes a delivery away earlier and says after which time.
#[derive(Debug)]
pub(crate) struct HoldLimit(AtomicU64);

impl HoldLimit {
    pub(crate) fn new(expected: Duration) -> Self {
        Self(AtomicU64::new(u64::try_from(expected.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The time for which a delivery is held here: less, since the server's clock begins a little before ours.
    pub(crate) fn local(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed) / 5 * 4)
    }

    /// Takes note of the time in the server's error when it closes a channel for a delivery that was held too long.
    pub(crate) fn learn(&self, error: &lapin::Error) {
        let Some(millis) = millis_in(&error.to_string()) else { return };
        let before = self.0.fetch_min(millis, Ordering::Relaxed);
        if millis < before {
            let server = Duration::from_millis(millis);
            tracing::warn!(
                ?server,
                "adopting the server's shorter limit for holding a delivery: put hold={} into the URL",
                server.as_secs()
            );
        }
    }
}

/// Reads the time from the server's error. Its form since 3.8.15: `… timed out. Timeout value used: 60000 ms. …`
fn millis_in(text: &str) -> Option<u64> {
    let (_, value) = text.split_once("Timeout value used: ")?;
    value.split_once(" ms")?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use lapin::protocol::{AMQPError, AMQPSoftError};

    use super::*;

    #[test]
    fn the_servers_limit_counts_if_it_is_shorter() {
        let hold = HoldLimit::new(Duration::from_secs(100));
        assert_eq!(hold.local(), Duration::from_secs(80));
        let after = |text: &str| {
            let kind = AMQPSoftError::PRECONDITIONFAILED.into();
            hold.learn(&lapin::ErrorKind::ProtocolError(AMQPError::new(kind, text.into())).into());
            hold.local()
        };
        let words = |millis| {
            format!(
                "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: {millis} \
                 ms. This"
            )
        };
        assert_eq!(after(&words(60_000)), Duration::from_secs(48));
        assert_eq!(after(&words(1_800_000)), Duration::from_secs(48));
        assert_eq!(after("PRECONDITION_FAILED - unknown delivery tag 7"), Duration::from_secs(48));
    }
}
