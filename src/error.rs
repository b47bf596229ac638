//! What can go wrong, in one type.
//!
//! An error is data: which file, key or setting, what is wrong with it, what helps. [`Error::line`] makes one line of it,
//! which says what happened, where, and what to do next. In it a [`Face`], such as a program or the interface for C, names
//! settings as its users do; `Display` names them in plain words. Lines quote names from files, which may hold anything:
//! what would steer a terminal is escaped.

use crate::machine;
use crate::printable::Printable;
use crate::setting::{Advice, Face, Plain, Refusal, Setting};
use std::fmt;
use std::io::{self, ErrorKind};
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
        source: io::Error,
    },
    /// The operating system does not keep a file's bytes in memory.
    Lock {
        /// The file.
        path: PathBuf,
        /// How many bytes.
        bytes: usize,
        /// What the system said.
        source: io::Error,
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
    /// The model lacks a metadata key that its architecture needs.
    MissingKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// The model lacks a tensor that its architecture needs.
    MissingTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// The model computes logits that are NaN or infinite.
    NotANumber {
        /// The file.
        path: PathBuf,
        /// Number of tokens behind which it does.
        n_tokens: usize,
    },
    /// Well formed, but not something this program can run.
    Unsupported(String),
    /// A GPU failed, or has no room left.
    Device(String),
    /// The drafter takes more of the GPU's memory than it may.
    DeviceMemory {
        /// How many bytes it may take.
        limit_bytes: usize,
    },
    /// There is no GPU with the number that was asked for.
    NoDevice,
    /// The drafter cannot run on the device that was asked for.
    Drafting {
        /// The device.
        device: String,
        /// Why.
        error: Box<Error>,
    },
    /// The prompt cannot be used: empty, or not what the model expects.
    Prompt(String),
    /// The prompt and the requested tokens do not fit the context window.
    Context {
        /// Tokens that would have to fit.
        needed: usize,
        /// Tokens that do fit.
        available: usize,
    },
    /// Memory does not hold the caches of keys and values.
    Memory {
        /// Tokens of a sequence.
        n_ctx: usize,
        /// Sequences.
        sequences: usize,
        /// Bytes of all caches.
        needed_bytes: u64,
        /// Bytes that are free; `None` where the system refuses them though it seems to have them.
        free_bytes: Option<u64>,
    },
    /// The system refuses memory for a model's weights.
    WeightMemory {
        /// The model's file.
        path: PathBuf,
        /// How much.
        bytes: u64,
        /// Why.
        source: io::Error,
    },
    /// The caller did not want it to go on: what was cancelled.
    Cancelled(&'static str),
    /// The chat template cannot be parsed or rendered.
    Template(String),
    /// A model cannot be had from a hub, or is not on the disk.
    Hub {
        /// The repository or the file.
        subject: String,
        /// What is wrong with it.
        what: String,
        /// What helps: one of these.
        advice: Vec<Advice>,
    },
    /// A setting cannot be as it is: the caller's mistake.
    Setting(Refusal),
    /// An argument that cannot be: the caller's mistake.
    Invalid(String),
}

impl Error {
    /// Whether the caller, not the model or the machine, has to change something.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Setting(_)
            | Self::Invalid(_)
            | Self::Prompt(_)
            | Self::Context { .. }
            | Self::Memory { .. } => true,
            Self::Drafting { error, .. } => error.is_usage(),
            _ => false,
        }
    }

    /// One line about it, for the users of a face.
    pub fn line(&self, face: &dyn Face) -> String {
        let help = match self {
            Self::Setting(refusal) => refusal.help(face),
            error => Advice::line(&error.advice(), face, None),
        };
        let line = match &help[..] {
            "" => self.what(face),
            help => format!("{}; {help}", self.what(face)),
        };
        Printable(&line).to_string()
    }

    /// What is wrong, and where.
    fn what(&self, face: &dyn Face) -> String {
        match self {
            Self::Io { path, source } => match source.kind() {
                ErrorKind::NotFound => format!("{}: no such file", path.display()),
                ErrorKind::PermissionDenied => format!("{}: not allowed", path.display()),
                _ => format!("{}: {source}", path.display()),
            },
            Self::Lock { path, bytes, source } => {
                format!("{}: cannot lock {bytes} bytes in memory ({source})", path.display())
            }
            Self::Gguf { path, what } | Self::Session { path, what } => {
                format!("{}: {what}", path.display())
            }
            Self::MissingKey { path, key } => format!("{}: key `{key}` is missing", path.display()),
            Self::MissingTensor { path, tensor } => {
                format!("{}: tensor `{tensor}` is missing", path.display())
            }
            Self::NotANumber { path, n_tokens } => format!(
                "{}: the logits after {n_tokens} tokens are not numbers (NaN or infinite), so its \
                 weights are damaged",
                path.display()
            ),
            Self::Unsupported(what)
            | Self::Device(what)
            | Self::Prompt(what)
            | Self::Invalid(what) => what.clone(),
            Self::DeviceMemory { limit_bytes } => format!(
                "the drafter needs more than the {} MiB of GPU memory that it may take",
                limit_bytes >> 20
            ),
            Self::NoDevice => "there is no such GPU".into(),
            // The advice is part of it.
            Self::Drafting { device, error } => {
                format!("no drafting on {device}: {}", error.line(face))
            }
            Self::Context { needed, available } => {
                format!("{needed} tokens do not fit the context of {available}")
            }
            Self::Memory { n_ctx, sequences, needed_bytes, free_bytes } => {
                let needed = machine::human_bytes(*needed_bytes);
                let why = match free_bytes.map(machine::human_bytes) {
                    Some(free) => format!(" and {free} are free"),
                    None => ", which the system refuses".into(),
                };
                let each = if *sequences > 1 { " for each sequence" } else { "" };
                format!("a context of {n_ctx} tokens{each} takes {needed}{why}")
            }
            Self::WeightMemory { path, bytes, source } => format!(
                "{}: the system refuses {} of memory ({source})",
                path.display(),
                machine::human_bytes(*bytes)
            ),
            Self::Cancelled(what) => format!("{what} was cancelled"),
            Self::Template(what) => format!("chat template: {what}"),
            Self::Hub { subject, what, .. } => format!("{subject}: {what}"),
            Self::Setting(refusal) => refusal.what(face),
        }
    }

    /// What helps: one of these.
    fn advice(&self) -> Vec<Advice> {
        let other = |what: &str| Advice::Do(what.into());
        match self {
            Self::Io { source, .. } => match source.kind() {
                ErrorKind::NotFound => vec![other("check the path")],
                ErrorKind::PermissionDenied => vec![other("check its permissions")],
                _ => vec![],
            },
            Self::Lock { .. } => {
                vec![other("raise the limit (ulimit -l)"), Advice::LeaveOut(Setting::Mlock.into())]
            }
            Self::MissingKey { .. } | Self::MissingTensor { .. } => {
                vec![other("convert the model anew")]
            }
            Self::NotANumber { .. } => vec![other("download or convert it anew")],
            Self::DeviceMemory { .. } => {
                vec![Advice::Raise(Setting::VramLimit), other("choose a smaller drafter")]
            }
            Self::NoDevice => vec![Advice::See(Setting::DeviceList)],
            Self::Context { .. } => {
                vec![other("shorten the prompt"), Advice::Raise(Setting::ContextSize)]
            }
            Self::Memory { .. } => vec![Advice::Lower(Setting::ContextSize)],
            Self::WeightMemory { .. } => {
                vec![
                    other("make room, raise the limit (ulimit -v)"),
                    other("choose a smaller model"),
                ]
            }
            Self::Template(_) => {
                vec![Advice::Replace(Setting::ChatTemplate), other("a plain prompt")]
            }
            Self::Hub { advice, .. } => advice.clone(),
            // They say it themselves, or nothing helps.
            Self::Setting(_)
            | Self::Gguf { .. }
            | Self::Session { .. }
            | Self::Unsupported(_)
            | Self::Device(_)
            | Self::Drafting { .. }
            | Self::Prompt(_)
            | Self::Cancelled(_)
            | Self::Invalid(_) => vec![],
        }
    }

    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn gguf(path: &Path, what: impl Into<String>) -> Self {
        Self::Gguf { path: path.to_owned(), what: what.into() }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        Error::Setting(refusal)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line(&Plain))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } | Self::Lock { source, .. } => Some(source),
            Self::Drafting { error, .. } => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct FlagNames;

    impl Face for FlagNames {
        fn name(&self, setting: Setting) -> &'static str {
            match setting {
                Setting::ContextSize => "--ctx-size",
                Setting::RopeScale => "--rope-scale",
                Setting::SpecSampling => "--spec-sampling",
                Setting::DraftDevice => "--draft-device",
                Setting::DraftModel => "--model-draft",
                Setting::SpecType => "--spec-type",
                _ => Plain.name(setting),
            }
        }

        fn usage(&self, setting: Setting) -> String {
            format!("{} X", self.name(setting))
        }
    }

    fn not_found() -> io::Error {
        ErrorKind::NotFound.into()
    }

    #[test]
    fn what_files_say_reaches_no_terminal_unescaped() {
        let name = "\x1b]0;owned\x07\x1b[2J\nerror: second line";
        for error in [
            Error::io(Path::new(name), std::io::ErrorKind::NotFound.into()),
            Error::gguf(Path::new("a.gguf"), format!("tensor `{name}` occurs twice")),
            Error::Session { path: name.into(), what: "is damaged".into() },
            Error::MissingKey { path: "a.gguf".into(), key: name.into() },
            Error::Unsupported(format!("architecture `{name}`")),
            Error::Template(name.into()),
        ] {
            let text = error.to_string();
            assert!(!text.contains(char::is_control), "{text:?}");
            assert!(text.contains(r"\u{1b}]0;owned\u{7}\u{1b}[2J\nerror: second line"), "{text}");
        }
    }

    #[test]
    fn messages_are_one_line_and_some_are_the_caller_s_mistake() {
        let all = [
            (Error::io(Path::new("a.gguf"), not_found()), false),
            (Error::Lock { path: "a.gguf".into(), bytes: 9, source: not_found() }, false),
            (Error::gguf(Path::new("a.gguf"), "ends early"), false),
            (Error::Session { path: "a.session".into(), what: "is damaged".into() }, false),
            (Error::MissingKey { path: "a.gguf".into(), key: "k".into() }, false),
            (Error::MissingTensor { path: "a.gguf".into(), tensor: "x".into() }, false),
            (Error::NotANumber { path: "a.gguf".into(), n_tokens: 3 }, false),
            (Error::Unsupported("u".into()), false),
            (Error::Device("d".into()), false),
            (Error::DeviceMemory { limit_bytes: 1 << 20 }, false),
            (Error::NoDevice, false),
            (Error::Drafting { device: "gpu1".into(), error: Error::NoDevice.into() }, false),
            (Error::Prompt("p".into()), true),
            (Error::Context { needed: 9, available: 8 }, true),
            (Error::Memory { n_ctx: 1, sequences: 2, needed_bytes: 3, free_bytes: Some(4) }, true),
            (Error::Cancelled("loading"), false),
            (Error::Template("line 1: t".into()), false),
            (Error::Hub { subject: "a/b".into(), what: "w".into(), advice: vec![] }, false),
            (Setting::TopP.with(2).refuse("is too large").into(), true),
            (Error::Invalid("i".into()), true),
        ];
        for (error, usage) in all {
            let text = error.to_string();
            assert!(!text.is_empty() && !text.contains('\n'), "{text:?}");
            assert_eq!(error.is_usage(), usage, "{text}");
        }
    }

    #[test]
    fn faces_name_settings_and_everybody_says_the_same_about_them() {
        let rejection = Setting::SpecSampling.with("rejection");
        let device = || Setting::DraftDevice.with("gpu");
        for (error, flags, plain) in [
            (
                Error::Context { needed: 9, available: 8 },
                "9 tokens do not fit the context of 8; shorten the prompt or raise --ctx-size",
                "9 tokens do not fit the context of 8; shorten the prompt or raise the context size",
            ),
            (
                rejection
                    .clone()
                    .refuse("is slow")
                    .or_leave_out(rejection)
                    .or_leave_out(device())
                    .into(),
                "--spec-sampling rejection is slow; leave it out or --draft-device gpu",
                "the rule of acceptance (rejection) is slow; leave it out or the device of the drafter (gpu)",
            ),
            (
                device()
                    .refuse_since("it is cold")
                    .or_leave_out(device())
                    .or_leave_out(Setting::SpecType)
                    .into(),
                "it is cold; leave out --draft-device gpu or --spec-type",
                "it is cold; leave out the device of the drafter (gpu) or the kind of drafter",
            ),
            (
                Setting::SpecType
                    .with("lm")
                    .refuse("needs a file")
                    .or(Advice::Name(Setting::DraftModel))
                    .into(),
                "--spec-type lm needs a file; name it with --model-draft X",
                "the kind of drafter (lm) needs a file; name it with the option for the file of the drafter",
            ),
            (
                Error::Drafting {
                    device: "gpu".into(),
                    error: Error::DeviceMemory { limit_bytes: 5 << 20 }.into(),
                },
                "no drafting on gpu: the drafter needs more than the 5 MiB of GPU memory that it may take; \
                 raise the limit of the GPU's memory or choose a smaller drafter",
                "no drafting on gpu: the drafter needs more than the 5 MiB of GPU memory that it may take; \
                 raise the limit of the GPU's memory or choose a smaller drafter",
            ),
        ] {
            let error: Error = error;
            assert_eq!(
                (error.line(&FlagNames), error.to_string()),
                (flags.to_owned(), plain.to_owned())
            );
        }
    }
}
