//! Why a template is refused: a reason, and the line where it was found.

use std::fmt;

/// Why a template is refused.
pub struct TemplateError(Box<Detail>);

struct Detail {
    line: Option<u32>,
    reason: String,
}

/// A result whose error is a [`TemplateError`].
pub type Result<T> = std::result::Result<T, TemplateError>;

impl TemplateError {
    /// An error whose line is not known yet.
    #[cold]
    pub fn new(reason: impl Into<String>) -> Self {
        Self(Box::new(Detail { line: None, reason: reason.into() }))
    }

    /// The same error at this line of the source, unless its line is known.
    #[cold]
    pub fn at(mut self, line: u32) -> Self {
        self.0.line.get_or_insert(line);
        self
    }

    /// The line of the source, from 1.
    pub fn line(&self) -> Option<u32> {
        self.0.line
    }

    /// The reason.
    pub fn reason(&self) -> &str {
        &self.0.reason
    }
}

impl fmt::Debug for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {:?}: {}", self.line(), self.reason())
    }
}
