//! Values that JSON carries for some types, and not for others.

/// A kind of value that decodes to itself for some types only: the type that reads it decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// `Some(None)`, `Some(())`: null, which is read as `None`.
    SomeOfNothing,
    /// A 128-bit number.
    Wide,
    /// A map key that is not text.
    Key,
    /// JSON that is embedded as it is.
    Raw,
    /// A map of unknown length. A struct with a flattened field is written as one.
    Flattened,
    /// Bytes in their compact form.
    Bytes,
    /// A field that is left out where its value is the usual one.
    Skipped,
    /// A second field of one name: the tag of an enum, and a field or key of its content.
    Repeated,
}

impl Doubt {
    const ALL: [Self; 8] = [
        Self::SomeOfNothing,
        Self::Wide,
        Self::Key,
        Self::Raw,
        Self::Flattened,
        Self::Bytes,
        Self::Skipped,
        Self::Repeated,
    ];

    /// The kinds that some types cannot read, the likeliest first.
    pub(crate) const UNREADABLE: [Self; 7] =
        [Self::Repeated, Self::Wide, Self::Key, Self::Raw, Self::Flattened, Self::Skipped, Self::Bytes];

    pub(crate) fn problem(self) -> &'static str {
        match self {
            Self::SomeOfNothing => {
                "`Some` of nothing, such as `Some(None)` or `Some(())`, is null in JSON, which is read as `None`; use an \
                 enum with a variant for each case"
            }
            Self::Wide => {
                "serde cannot read a 128-bit number inside of an untagged or internally tagged enum or a flattened field; \
                 send it as text, or tag the enum externally"
            }
            Self::Key => {
                "serde cannot read map keys that are not text inside of an untagged or internally tagged enum or a \
                 flattened field; use text as key, or tag the enum externally"
            }
            Self::Raw => {
                "serde cannot read embedded JSON inside of an untagged or internally tagged enum or a flattened field; tag \
                 the enum externally"
            }
            Self::Flattened => "a flattened field does not come back as it was; name it instead of flattening it",
            Self::Bytes => "these bytes do not come back as they were",
            Self::Skipped => {
                "a field that is skipped is missed when it is read: add `#[serde(default)]` to `skip_serializing_if`"
            }
            Self::Repeated => {
                "its name is there twice, as that of an enum's tag and of a field or key of its content; rename one of them"
            }
        }
    }
}

/// The kind of value that is refused, or that is taken for the cause of an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Suspect {
    pub(crate) doubt: Doubt,
    /// The name of the field, where that is known.
    pub(crate) field: Option<String>,
}

impl From<Doubt> for Suspect {
    fn from(doubt: Doubt) -> Self {
        Self { doubt, field: None }
    }
}

/// Counts the doubts by their kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Doubts([u32; 8]);

impl Doubts {
    pub(crate) fn add(&mut self, doubt: Doubt) {
        self.0[doubt as usize] += 1;
    }

    pub(crate) fn has(&self, doubt: Doubt) -> bool {
        self.0[doubt as usize] > 0
    }

    /// Returns the likeliest cause of an error of the reader.
    pub(crate) fn suspect_of(&self, error: &str) -> Option<Suspect> {
        let missing = error.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
        let suspect = match missing {
            Some(field) if self.has(Doubt::Skipped) => {
                return Some(Suspect { doubt: Doubt::Skipped, field: Some(field.to_owned()) });
            }
            _ if error.starts_with("duplicate field") && self.has(Doubt::Repeated) => Some(Doubt::Repeated),
            _ => Doubt::UNREADABLE.into_iter().find(|doubt| self.has(*doubt)),
        };
        suspect.map(Suspect::from)
    }

    /// Returns the first kind whose count differs, or else the first kind that occurred.
    pub(crate) fn first_difference(&self, other: &Self) -> Option<Doubt> {
        let differs = |doubt: &Doubt| self.0[*doubt as usize] != other.0[*doubt as usize];
        Doubt::ALL.into_iter().find(differs).or_else(|| Doubt::ALL.into_iter().find(|doubt| self.has(*doubt)))
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Digest of a text that ignores the order of its parts, since the order of a hash map changes each time.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    length: usize,
    sum: u64,
}

impl Fingerprint {
    pub(crate) fn from_text(text: &str) -> Self {
        let sum = text.bytes().fold(0_u64, |sum, byte| sum + u64::from(byte));
        Self { length: text.len(), sum }
    }
}
