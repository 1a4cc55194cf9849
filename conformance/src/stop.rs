//! The end of a case.

use std::fmt::{self, Debug};

use crate::check::Violation;
use crate::history::Entry;

/// The end of a case.
pub(crate) type CaseResult = Result<(), Stop>;

/// The longest list that is shown as a whole.
const SHOWN: usize = 12;
/// The number of equal items that are shown before the first difference.
const BEFORE: usize = 3;

/// The reason why a case stopped: the property does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stop {
    why: String,
    at: Option<Box<Entry>>,
}

impl Stop {
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), at: None }
    }

    /// The entry of the history that shows it, if there is one.
    pub(crate) fn at(&self) -> Option<&Entry> {
        self.at.as_deref()
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl From<Violation> for Stop {
    fn from(violation: Violation) -> Self {
        Self { why: violation.to_string(), at: violation.entry }
    }
}

impl From<partitura_broker::Error> for Stop {
    fn from(error: partitura_broker::Error) -> Self {
        Self::new(format!("{:?}: {error}", error.kind()))
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::new(error.to_string())
    }
}

impl From<String> for Stop {
    fn from(why: String) -> Self {
        Self::new(why)
    }
}

impl From<&str> for Stop {
    fn from(why: &str) -> Self {
        Self::new(why)
    }
}

/// Ends the case if a condition does not hold.
macro_rules! ensure {
    ($condition:expr, $($why:tt)+) => {
        if !$condition {
            return Err($crate::stop::Stop::new(format!($($why)+)));
        }
    };
}
pub(crate) use ensure;

/// Ends the case if a list is not the expected one. Of long lists the reason shows the first difference, and no more.
pub(crate) fn ensure_same<T, U>(found: &[T], expected: &[U]) -> CaseResult
where
    T: Debug + PartialEq<U>,
    U: Debug,
{
    if found == expected {
        return Ok(());
    }
    if found.len().max(expected.len()) <= SHOWN {
        return Err(Stop::new(format!("{expected:?} were expected, {found:?} came")));
    }
    let equal = found.iter().zip(expected).take_while(|(found, expected)| found == expected).count();
    let text = |item: Option<String>| item.unwrap_or_else(|| "nothing".to_owned());
    let came = text(found.get(equal).map(|item| format!("{item:?}")));
    let meant = text(expected.get(equal).map(|item| format!("{item:?}")));
    let before = &found[equal.saturating_sub(BEFORE)..equal];
    Err(Stop::new(format!(
        "{} were expected, {} came; the first difference is number {}: {meant} was expected, {came} came, behind {before:?}",
        expected.len(),
        found.len(),
        equal + 1,
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_list_is_shown_as_a_whole() {
        assert_eq!(ensure_same(&[1, 2], &[1, 2]), Ok(()));
        let stop = ensure_same(&["a", "c"], &["a", "b"]).expect_err("they differ");
        assert_eq!(stop.to_string(), "[\"a\", \"b\"] were expected, [\"a\", \"c\"] came");
    }

    #[test]
    fn of_a_long_list_the_first_difference_is_shown() {
        let expected: Vec<u32> = (0..5_000).collect();
        let mut found = expected.clone();
        found.swap(700, 701);
        let stop = ensure_same(&found, &expected).expect_err("they differ");
        let text = "5000 were expected, 5000 came; the first difference is number 701: 700 was expected, 701 came, \
                    behind [697, 698, 699]";
        assert_eq!(stop.to_string(), text);
        let stop = ensure_same(&expected[..4_999], &expected).expect_err("one is missing");
        assert!(stop.to_string().contains("number 5000: 4999 was expected, nothing came"), "{stop}");
    }
}
