use std::fmt::{self, Display};

/// The error for a value that JSON cannot carry unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodeError(Box<Inner>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Inner {
    path: String,
    problem: String,
}

impl EncodeError {
    pub(crate) fn new(problem: impl Into<String>) -> Self {
        Self(Box::new(Inner { path: String::new(), problem: problem.into() }))
    }

    /// The path of the field: `orders[3].price`. Empty for the value itself.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// The reason.
    pub fn problem(&self) -> &str {
        &self.0.problem
    }

    /// Prepends the field, key or variant that contains the error.
    pub(crate) fn in_field(mut self, name: &str) -> Self {
        let path = &mut self.0.path;
        let separator = if path.is_empty() || path.starts_with('[') { "" } else { "." };
        *path = format!("{name}{separator}{path}");
        self
    }

    /// Prepends the element that contains the error.
    pub(crate) fn in_element(self, index: usize) -> Self {
        self.in_field(&format!("[{index}]"))
    }

    pub(crate) fn because(mut self, cause: &str) -> Self {
        self.0.problem = format!("{} ({cause})", self.0.problem);
        self
    }
}

impl Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path() {
            "" => f.write_str(self.problem()),
            path => write!(f, "field `{path}`: {}", self.problem()),
        }
    }
}

impl std::error::Error for EncodeError {}

impl serde::ser::Error for EncodeError {
    fn custom<T: Display>(message: T) -> Self {
        Self::new(message.to_string())
    }
}
