//! Delay, by the server's own message schedules.
//!
//! A message that is not due yet is stored on a subject of its own, with a moment and the subject to publish it to. The server
//! moves it there some milliseconds after that moment, and gives those of one tick a place in the stream as they were
//! published. So the moment that it is told lies a little before the one that is meant ([`LEAD`]). The consumer holds back
//! what came early until it is due, and gives it out in the order of the times:
//! [`Claims::clock`](partitura_adapter_kit::Claims::clock).

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::{NATS_SCHEDULE, NATS_SCHEDULE_TARGET};
use partitura_broker::Timestamp;

/// How long before it is due a message is passed on: several of the server's ticks. What is due sooner does not wait there.
pub(crate) const LEAD: Duration = Duration::from_millis(250);

/// Adds what makes the server hold the message back until shortly before `due`, and publish it to `target` then.
pub(crate) fn hold_back(headers: &mut HeaderMap, due: Timestamp, target: &str) {
    headers.insert(NATS_SCHEDULE, format!("@at {}", rfc3339(passed_on(due))));
    headers.insert(NATS_SCHEDULE_TARGET, target);
}

/// When the server passes on what is due at a moment.
pub(crate) fn passed_on(due: Timestamp) -> Timestamp {
    let lead = u64::try_from(LEAD.as_millis()).unwrap_or(u64::MAX);
    Timestamp::from_millis(due.as_millis().saturating_sub(lead))
}

/// The moment as text, to the millisecond, in UTC.
///
/// Source of the calendar: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
pub(crate) fn rfc3339(moment: Timestamp) -> String {
    let (days, millis) = (moment.as_millis() / 86_400_000, moment.as_millis() % 86_400_000);
    // Years begin in March, so that the leap day is their last; eras of 400 years are all alike.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_based = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_based + 2) / 5 + 1;
    let month = if march_based < 10 { march_based + 3 } else { march_based - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (seconds, millis) = (millis / 1_000, millis % 1_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_to_the_millisecond() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_827_696_789, "2000-02-29T12:34:56.789Z"),
            (1_709_164_800_001, "2024-02-29T00:00:00.001Z"),
            (1_735_689_599_999, "2024-12-31T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(Timestamp::from_millis(millis)), text);
        }
    }
}
