use std::fmt::{self, Display};

/// A value that has no form in JSON which comes back as it is.
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

    /// Where in the value: `orders[3].price`. Empty for the value itself.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// What is wrong with it.
    pub fn problem(&self) -> &str {
        &self.0.problem
    }

    /// The error came from inside of a field, key or variant of this name.
    pub(crate) fn in_field(mut self, name: &str) -> Self {
        let path = &mut self.0.path;
        let separator = if path.is_empty() || path.starts_with('[') { "" } else { "." };
        *path = format!("{name}{separator}{path}");
        self
    }

    /// The error came from inside of an element.
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
