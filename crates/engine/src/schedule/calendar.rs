//! Which times a schedule has.

use cronexpr::{Crontab, FallbackTimezoneOption, ParseOptions, parse_crontab_with};
use partitura_workflow::jiff::civil::DateTime;
use partitura_workflow::jiff::tz::{Offset, TimeZone};
use partitura_workflow::jiff::{SignedDuration, Timestamp};

use super::specification::Recurrence;

/// How many changes of its clocks a time zone may have before a time that a cron expression means.
const TRANSITIONS: usize = 1_000;
const MOMENT: SignedDuration = SignedDuration::from_nanos(1);
/// The year from which on a cron expression has no times: calendars end with the year 9999, and the search for a time
/// may look far ahead.
const LAST_YEAR: i16 = 9_900;

/// Times that come again and again, in a time zone.
pub(super) struct Calendar {
    rules: Vec<Rule>,
    zone: TimeZone,
}

enum Rule {
    /// `is_fixed`: it means times of the day. Otherwise its minute or hour is `*` or `*/n`, and it means an interval.
    Cron {
        table: Box<Crontab>,
        is_fixed: bool,
    },
    Every {
        period: i128,
        offset: i128,
    },
}

impl Calendar {
    /// # Errors
    /// The problem with the times or the time zone, for people.
    pub(super) fn new(times: &[Recurrence], zone: &str) -> Result<Self, String> {
        let zone = TimeZone::get(zone).map_err(|error| format!("there is no time zone {zone:?}: {error}"))?;
        let rules = times.iter().map(Rule::new).collect::<Result<Vec<_>, _>>()?;
        if rules.is_empty() {
            return Err("it has no times: write .cron(…) or .every(…)".to_owned());
        }
        Ok(Self { rules, zone })
    }

    /// The first time after a moment. `None`: there is none.
    pub(super) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        self.rules.iter().filter_map(|rule| rule.next(&self.zone, after)).min()
    }
}

impl Rule {
    fn new(recurrence: &Recurrence) -> Result<Self, String> {
        match recurrence {
            Recurrence::Cron(expression) => Self::cron(expression),
            Recurrence::Every { period, offset } if period.as_millis() >= 1_000 => {
                let nanos = |duration: &std::time::Duration| i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX);
                Ok(Self::Every { period: nanos(period), offset: nanos(offset) % nanos(period) })
            }
            Recurrence::Every { period, .. } => Err(format!("it is to start every {period:?}; the least is 1 s")),
        }
    }

    fn cron(expression: &str) -> Result<Self, String> {
        let fields: Vec<&str> = expression.split_whitespace().collect();
        let [minute, hour, _, _, _] = fields[..] else {
            return Err(format!(
                "the cron expression {expression:?} has {} fields, not 5: minute, hour, day of the month, month, day of \
                 the week",
                fields.len()
            ));
        };
        let is_fixed = !minute.starts_with('*') && !hour.starts_with('*');
        // Its civil times are put into the time zone here, and not there.
        let mut options = ParseOptions::default();
        options.fallback_timezone_option = FallbackTimezoneOption::UTC;
        let table = parse_crontab_with(expression, options).map_err(|error| format!("the cron expression {error}"))?;
        let rule = Self::Cron { table: Box::new(table), is_fixed };
        match rule.next(&TimeZone::UTC, Timestamp::UNIX_EPOCH) {
            Some(_) => Ok(rule),
            None => Err(format!("the cron expression {expression:?} means no time at all")),
        }
    }

    fn next(&self, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Cron { table, is_fixed } => next_of_cron(table, *is_fixed, zone, after),
            Self::Every { period, offset } => {
                let rounds = (after.as_nanosecond() - offset).div_euclid(*period) + 1;
                Timestamp::from_nanosecond(rounds.checked_mul(*period)?.checked_add(*offset)?).ok()
            }
        }
    }
}

/// The clocks of a time zone between two changes.
struct Period {
    begins: Timestamp,
    offset: Offset,
}

/// Times of the day that do not exist, since the clocks are put forward, become the moment of that; those that exist
/// twice are the first of the two. An interval goes by the clocks as they are.
fn next_of_cron(table: &Crontab, is_fixed: bool, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
    let mut period = Period { begins: after, offset: zone.to_offset(after) };
    let mut from = period.offset.to_datetime(after);
    if is_fixed && let Some(had_before) = repeated_until(zone, after, period.offset) {
        from = from.max(had_before);
    }
    for _ in 0..TRANSITIONS {
        let civil = next_civil(table, from)?;
        let candidate = period.offset.to_timestamp(civil).ok()?;
        let Some(change) = zone.following(period.begins).next() else { return Some(candidate) };
        if candidate < change.timestamp() {
            return Some(candidate);
        }
        let ends = period.offset.to_datetime(change.timestamp());
        period = Period { begins: change.timestamp(), offset: change.offset() };
        let begins = period.offset.to_datetime(period.begins);
        if is_fixed && civil < begins {
            return Some(period.begins);
        }
        from = if is_fixed { begins.max(ends) } else { begins };
        from = from.checked_sub(MOMENT).ok()?;
    }
    None
}

/// If the clocks were put back before a moment, up to where they show what they showed before: the last moment of that.
fn repeated_until(zone: &TimeZone, after: Timestamp, offset: Offset) -> Option<DateTime> {
    let change = zone.preceding(after.checked_add(MOMENT).ok()?).next()?;
    let before = zone.to_offset(change.timestamp().checked_sub(MOMENT).ok()?);
    (before > offset).then(|| before.to_datetime(change.timestamp()).checked_sub(MOMENT).ok()).flatten()
}

/// The first time of the clocks, after one, that an expression means.
fn next_civil(table: &Crontab, after: DateTime) -> Option<DateTime> {
    if after.year() >= LAST_YEAR {
        return None;
    }
    let after = Offset::UTC.to_timestamp(after).ok()?;
    Some(Offset::UTC.to_datetime(table.find_next(after).ok()?.timestamp()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const BERLIN: &str = "Europe/Berlin";

    fn times(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let calendar = Calendar::new(&[Recurrence::Cron(cron.to_owned())], zone).expect("a calendar");
        let first = calendar.next(after.parse().expect("a time"));
        std::iter::successors(first, |time| calendar.next(*time)).take(count).map(|time| time.to_string()).collect()
    }

    #[test]
    fn a_time_of_the_day_is_the_same_on_the_clock_when_the_clocks_change() {
        let spring = times("0 3 * * *", BERLIN, "2026-03-27T12:00:00Z", 3);
        assert_eq!(spring, ["2026-03-28T02:00:00Z", "2026-03-29T01:00:00Z", "2026-03-30T01:00:00Z"]);
        let autumn = times("0 4 * * *", BERLIN, "2026-10-24T00:00:00Z", 3);
        assert_eq!(autumn, ["2026-10-24T02:00:00Z", "2026-10-25T03:00:00Z", "2026-10-26T03:00:00Z"]);
    }

    #[test]
    fn a_time_that_does_not_exist_is_the_moment_of_the_change() {
        let spring = times("30 2 * * *", BERLIN, "2026-03-28T00:00:00Z", 3);
        assert_eq!(spring, ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
        // Two that become one are one.
        let both = times("0,30 2,3 * * *", BERLIN, "2026-03-28T12:00:00Z", 3);
        assert_eq!(both, ["2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:00:00Z"]);
    }

    #[test]
    fn a_time_that_exists_twice_is_the_first() {
        let autumn = times("30 2 * * *", BERLIN, "2026-10-24T12:00:00Z", 2);
        assert_eq!(autumn, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
        assert_eq!(times("30 2 * * *", BERLIN, "2026-10-25T01:10:00Z", 1), ["2026-10-26T01:30:00Z"]);
        assert_eq!(times("0 3 * * *", BERLIN, "2026-10-25T01:10:00Z", 1), ["2026-10-25T02:00:00Z"]);
    }

    #[test]
    fn an_interval_goes_on_through_a_change() {
        let spring = times("0 * * * *", BERLIN, "2026-03-29T00:00:00Z", 3);
        assert_eq!(spring, ["2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z", "2026-03-29T03:00:00Z"]);
        let autumn = times("*/30 * * * *", BERLIN, "2026-10-24T23:45:00Z", 5);
        let halves = ["00:00", "00:30", "01:00", "01:30", "02:00"].map(|time| format!("2026-10-25T{time}:00Z"));
        assert_eq!(autumn, halves);
    }

    #[test]
    fn other_zones_have_other_clocks() {
        // Samoa left out a day; Lord Howe's clocks change by half an hour.
        let samoa = times("0 12 30 12 *", "Pacific/Apia", "2011-12-29T00:00:00Z", 1);
        assert_eq!(samoa, ["2011-12-30T10:00:00Z"]);
        let lord_howe = times("15 2 * * *", "Australia/Lord_Howe", "2026-10-02T20:00:00Z", 2);
        assert_eq!(lord_howe, ["2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"]);
        assert_eq!(times("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", 1), ["2028-02-29T00:00:00Z"]);
        assert_eq!(times("0 9 * * MON-FRI", "UTC", "2026-11-27T10:00:00Z", 1), ["2026-11-30T09:00:00Z"]);
        assert_eq!(times("0 0 L * *", "UTC", "2026-02-01T00:00:00Z", 1), ["2026-02-28T00:00:00Z"]);
    }

    #[test]
    fn calendars_end() {
        for cron in ["* * * * *", "0 0 29 2 *", "0 0 L * *"] {
            assert_eq!(times(cron, "Pacific/Apia", "9998-12-31T23:59:59Z", 1), [""; 0]);
            assert_eq!(times(cron, BERLIN, &Timestamp::MAX.to_string(), 1), [""; 0]);
            assert_eq!(times(cron, BERLIN, &Timestamp::MIN.to_string(), 1).len(), 1);
        }
    }

    #[test]
    fn several_rules_are_one_calendar() {
        let hours = |hours: u64| Duration::from_secs(hours * 3_600);
        let every = Recurrence::Every { period: hours(6), offset: hours(1) };
        let calendar = Calendar::new(&[every, Recurrence::Cron("0 8 * * *".to_owned())], "UTC").expect("a calendar");
        let first = calendar.next("2026-01-01T01:00:00Z".parse().expect("a time"));
        let times = std::iter::successors(first, |time| calendar.next(*time)).take(3);
        let times: Vec<String> = times.map(|time| time.to_string()).collect();
        assert_eq!(times, ["2026-01-01T07:00:00Z", "2026-01-01T08:00:00Z", "2026-01-01T13:00:00Z"]);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let problem = |times: &[Recurrence], zone| Calendar::new(times, zone).err().expect("refused");
        let cron = |text: &str| vec![Recurrence::Cron(text.to_owned())];
        for (times, zone, told) in [
            (vec![], "UTC", "it has no times"),
            (cron("0 3 * * *"), "Europe/Berlni", "there is no time zone \"Europe/Berlni\""),
            (cron("0 3 * * * UTC"), "UTC", "has 6 fields, not 5"),
            (cron("0 25 * * *"), "UTC", "25"),
            (cron("0 0 31 2 *"), "UTC", "means no time at all"),
            (vec![Recurrence::Every { period: Duration::ZERO, offset: Duration::ZERO }], "UTC", "the least is 1 s"),
        ] {
            let problem = problem(&times, zone);
            assert!(problem.contains(told), "{problem}");
        }
    }
}
