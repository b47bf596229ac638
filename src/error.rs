//! What can go wrong, in one type.
//!
//! Every message is one line and says what happened, where, and what to do next. Messages are made
//! where the error is made: nothing here formats more than a path in front of a sentence.

use std::fmt;
use std::path::{Path, PathBuf};

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// The error of every fallible function in this crate.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused a file.
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not a model that can be read: malformed, truncated, or of another kind.
    Gguf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and where in it.
        what: String,
    },
    /// The file is not a session that can be gone on with: damaged, or saved with something else.
    Session {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The model lacks a metadata key or a tensor that its architecture needs.
    Missing {
        /// The key or tensor, named, with its file.
        what: String,
    },
    /// Well formed, but not something this program can run.
    Unsupported(String),
    /// A GPU failed, or has no room left.
    Device(String),
    /// The prompt cannot be used: empty, or not what the model expects.
    Prompt(String),
    /// The prompt and the requested tokens do not fit the context window.
    Context {
        /// Tokens that would have to fit.
        needed: usize,
        /// Tokens that do fit.
        available: usize,
    },
    /// Memory does not suffice.
    Memory(String),
    /// The caller did not want it to go on: what was cancelled.
    Cancelled(&'static str),
    /// The chat template cannot be parsed or rendered.
    Template(String),
    /// An option or argument that cannot be: the caller's mistake.
    Invalid(String),
}

impl Error {
    /// Whether the caller, not the model or the machine, has to change something: exit code 2.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Invalid(_) | Self::Prompt(_) | Self::Context { .. } | Self::Memory(_))
    }

    /// The exit code of a program that ends with this error: 2 for usage, else 1.
    pub fn exit_code(&self) -> u8 {
        if self.is_usage() { 2 } else { 1 }
    }

    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn gguf(path: &Path, what: impl Into<String>) -> Self {
        Self::Gguf { path: path.to_owned(), what: what.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, source } => {
                let path = path.display();
                match source.kind() {
                    std::io::ErrorKind::NotFound => {
                        write!(f, "{path}: no such file; check the path")
                    }
                    std::io::ErrorKind::PermissionDenied => {
                        write!(f, "{path}: not allowed; check its permissions")
                    }
                    _ => write!(f, "{path}: {source}"),
                }
            }
            Self::Gguf { path, what } | Self::Session { path, what } => {
                write!(f, "{}: {what}", path.display())
            }
            Self::Missing { what } => write!(f, "{what}"),
            Self::Unsupported(what)
            | Self::Device(what)
            | Self::Prompt(what)
            | Self::Memory(what)
            | Self::Invalid(what) => write!(f, "{what}"),
            Self::Context { needed, available } => write!(
                f,
                "{needed} tokens do not fit the context of {available}; \
                 shorten the prompt or raise --ctx-size"
            ),
            Self::Cancelled(what) => write!(f, "{what} was cancelled"),
            Self::Template(what) => write!(f, "chat template: {what}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_line_and_usage_exits_with_two() {
        let all = [
            Error::io(Path::new("a.gguf"), std::io::ErrorKind::NotFound.into()),
            Error::gguf(Path::new("a.gguf"), "ends early"),
            Error::Session { path: "a.session".into(), what: "is damaged".into() },
            Error::Missing { what: "a.gguf has no tensor `x`".into() },
            Error::Unsupported("u".into()),
            Error::Device("d".into()),
            Error::Prompt("p".into()),
            Error::Context { needed: 9, available: 8 },
            Error::Memory("m".into()),
            Error::Cancelled("loading"),
            Error::Template("line 1: t".into()),
            Error::Invalid("i".into()),
        ];
        for error in &all {
            let text = error.to_string();
            assert!(!text.is_empty() && !text.contains('\n'), "{text:?}");
        }
        let codes: Vec<u8> = all.iter().map(Error::exit_code).collect();
        assert_eq!(codes, [1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 2]);
    }
}
