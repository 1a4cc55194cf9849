//! Durations that read like what they mean, and their form on the wire: whole milliseconds.

use std::time::Duration;

/// `n` days of 24 hours.
pub const fn days(n: u64) -> Duration {
    hours(n.saturating_mul(24))
}

/// `n` hours.
pub const fn hours(n: u64) -> Duration {
    minutes(n.saturating_mul(60))
}

/// `n` minutes.
pub const fn minutes(n: u64) -> Duration {
    Duration::from_secs(n.saturating_mul(60))
}

/// `n` seconds.
pub const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// `n` milliseconds, the resolution of every timer.
pub const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Whole milliseconds, rounded up: a timer is never early.
pub(crate) fn as_millis(duration: Duration) -> u64 {
    let whole = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if duration.subsec_nanos().is_multiple_of(1_000_000) { whole } else { whole.saturating_add(1) }
}

/// `3d`, `1h30m`, `250ms`.
pub(crate) fn readable(mut ms: u64) -> String {
    if ms == 0 {
        return "0ms".to_owned();
    }
    let mut text = String::new();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        if ms >= size {
            text.push_str(&format!("{}{unit}", ms / size));
            ms %= size;
        }
    }
    text
}

pub(crate) mod optional_millis_serde {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => serializer.serialize_some(&super::as_millis(*duration)),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_millis))
    }
}
