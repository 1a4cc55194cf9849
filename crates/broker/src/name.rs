use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest name of a topic or subscription, in bytes, before an adapter adds its own.
pub const MAX_NAME: usize = 180;

/// A name that is not allowed, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} cannot be the name of a {what}: {reason}; use 1 to {MAX_NAME} of the characters A–Z a–z 0–9 . _ -, \
     beginning with a letter or digit"
)]
pub struct InvalidName {
    /// The kind of object that was to be named.
    pub what: &'static str,
    /// The name, cut if it is far too long.
    pub name: String,
    /// The rule that it breaks.
    pub reason: &'static str,
}

fn check(what: &'static str, name: &str) -> Result<Arc<str>, InvalidName> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > MAX_NAME {
        "it is too long"
    } else if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        "its first character is neither a letter nor a digit"
    } else if name.contains(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c))) {
        "it contains another character"
    } else {
        return Ok(name.into());
    };
    Err(InvalidName { what, name: name.chars().take(MAX_NAME).collect(), reason })
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        ///
        /// Up to [`MAX_NAME`] characters of `A–Z a–z 0–9 . _ -`, the first a letter or digit: every broker takes these.
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Checks and wraps a name.
            ///
            /// # Errors
            /// Says what is wrong with the name, and what is allowed.
            pub fn new(name: impl AsRef<str>) -> Result<Self, InvalidName> {
                check($what, name.as_ref()).map(Self)
            }

            /// As text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;

            fn from_str(name: &str) -> Result<Self, InvalidName> {
                Self::new(name)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

name!(
    /// The name of a topic.
    TopicName, "topic"
);
name!(
    /// The name of a subscription.
    SubscriptionName, "subscription"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_some_broker_would_refuse_are_refused_with_the_reason() {
        for (name, reason) in [
            ("", "empty"),
            (".x", "first character"),
            ("a b", "another character"),
            ("näher", "another character"),
            (&"x".repeat(MAX_NAME + 1), "too long"),
        ] {
            let error = TopicName::new(name).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
            assert!(error.to_string().contains("topic"), "{error}");
        }
        assert_eq!(TopicName::new("Orders.v2_x-1").unwrap().as_str(), "Orders.v2_x-1");
    }
}
