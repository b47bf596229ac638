//! Results of calls.

use crate::error::Error;
use crate::setting::{Face, Setting};
use std::ffi::{CStr, c_char};

/// The result of a call. Codes keep their numbers; later versions may add others.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum dovetail_status {
    /// The call succeeded.
    DOVETAIL_OK = 0,
    /// The answer has ended: there is no further piece.
    DOVETAIL_END = 1,
    /// A callback returned false, or dovetail_session_cancel was called.
    DOVETAIL_CANCELLED = 2,
    /// An argument is invalid: NULL where a value is needed, text that is not UTF-8, an unknown option.
    DOVETAIL_ERROR_ARGUMENT = 3,
    /// The handle is NULL, was freed, or is of another kind.
    DOVETAIL_ERROR_HANDLE = 4,
    /// The session is in the middle of another call.
    DOVETAIL_ERROR_BUSY = 5,
    /// The buffer is too small; the required length was written.
    DOVETAIL_ERROR_BUFFER = 6,
    /// The operating system refused access to a file.
    DOVETAIL_ERROR_IO = 7,
    /// The file is not a model, lacks something that models of its kind need, or its weights are damaged: its logits are
    /// NaN or infinite.
    DOVETAIL_ERROR_MODEL = 8,
    /// The file is not a session of this model, or is damaged.
    DOVETAIL_ERROR_SESSION_FILE = 9,
    /// The input is well formed, but this library cannot run it.
    DOVETAIL_ERROR_UNSUPPORTED = 10,
    /// A GPU failed or has no memory left.
    DOVETAIL_ERROR_DEVICE = 11,
    /// The prompt cannot be used, for example because it is empty.
    DOVETAIL_ERROR_PROMPT = 12,
    /// The prompt does not fit the context.
    DOVETAIL_ERROR_CONTEXT = 13,
    /// The chat template is missing, cannot be parsed, or refuses the messages.
    DOVETAIL_ERROR_TEMPLATE = 14,
    /// There is not enough memory.
    DOVETAIL_ERROR_MEMORY = 15,
    /// An error in this library; please report it. If a session was involved, it can only be freed.
    DOVETAIL_ERROR_INTERNAL = 16,
}

use dovetail_status::*;

/// Names of the codes, in order.
const NAMES: [&CStr; 17] = [
    c"ok",
    c"the text has ended",
    c"cancelled",
    c"an argument cannot be",
    c"no such handle",
    c"the session is busy",
    c"the buffer is too small",
    c"a file was refused",
    c"not a model that can be run",
    c"not a session of this model",
    c"not supported",
    c"a GPU failed",
    c"the prompt cannot be used",
    c"the prompt does not fit the context",
    c"the chat template cannot be used",
    c"memory does not suffice",
    c"an internal error",
];

/// The names of settings in errors: those of the fields of options.
pub(super) struct FieldNames;

impl Face for FieldNames {
    fn name(&self, setting: Setting) -> &'static str {
        match setting {
            Setting::Repack => "repack",
            Setting::NoMmap => "no_mmap",
            Setting::Mlock => "mlock",
            Setting::ChatTemplate => "chat_template",
            Setting::Threads => "threads",
            Setting::ContextSize => "n_ctx",
            Setting::RopeScale => "rope_scale",
            Setting::PassSize => "n_ubatch",
            Setting::CacheTypeK => "cache_type_k",
            Setting::CacheTypeV => "cache_type_v",
            Setting::Temperature => "temperature",
            Setting::TopP => "top_p",
            Setting::MinP => "min_p",
            Setting::RepeatPenalty => "repeat_penalty",
            Setting::RepeatLastN => "repeat_last_n",
            Setting::PresencePenalty => "presence_penalty",
            Setting::FrequencyPenalty => "frequency_penalty",
            Setting::SpecType => "spec_type",
            Setting::DraftModel => "model_draft",
            Setting::Tree => "tree",
            Setting::SpecSampling => "spec_sampling",
            Setting::DraftDepth => "draft_n_max",
            Setting::DraftPMin => "draft_p_min",
            Setting::DraftDevice => "draft_device",
            Setting::VramLimit => "vram_limit",
            // No function of the library lists devices, or fetches models.
            Setting::DeviceList => "nvidia-smi",
            Setting::HubFile | Setting::HubToken | Setting::Offline | Setting::ModelList => {
                "dovetail-run"
            }
        }
    }
}

/// A failure to be returned to C.
#[derive(Debug)]
pub(super) struct Failure {
    pub status: dovetail_status,
    pub line: String,
}

impl Failure {
    pub fn new(status: dovetail_status, line: impl Into<String>) -> Failure {
        Failure { status, line: line.into() }
    }

    /// The caller's mistake.
    pub fn argument(line: impl Into<String>) -> Failure {
        Failure::new(DOVETAIL_ERROR_ARGUMENT, line)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::new(status(&error), error.line(&FieldNames))
    }
}

fn status(error: &Error) -> dovetail_status {
    match error {
        Error::Io { .. } | Error::Hub { .. } => DOVETAIL_ERROR_IO,
        Error::Gguf { .. }
        | Error::MissingKey { .. }
        | Error::MissingTensor { .. }
        | Error::NotANumber { .. } => DOVETAIL_ERROR_MODEL,
        Error::Session { .. } => DOVETAIL_ERROR_SESSION_FILE,
        Error::Unsupported(_) | Error::NoDevice | Error::Lock { .. } => DOVETAIL_ERROR_UNSUPPORTED,
        Error::Device(_) | Error::DeviceMemory { .. } => DOVETAIL_ERROR_DEVICE,
        Error::Drafting { error, .. } => status(error),
        Error::Prompt(_) => DOVETAIL_ERROR_PROMPT,
        Error::Context { .. } => DOVETAIL_ERROR_CONTEXT,
        Error::Template(_) => DOVETAIL_ERROR_TEMPLATE,
        Error::Memory { .. } | Error::WeightMemory { .. } => DOVETAIL_ERROR_MEMORY,
        Error::Cancelled(_) => DOVETAIL_CANCELLED,
        Error::Setting(_) | Error::Invalid(_) => DOVETAIL_ERROR_ARGUMENT,
    }
}

/// Returns the meaning of a code in a few words. Never NULL, whatever the number.
#[unsafe(no_mangle)]
pub extern "C" fn dovetail_status_string(status: i32) -> *const c_char {
    let name = usize::try_from(status).ok().and_then(|i| NAMES.get(i));
    name.unwrap_or(&c"not a status of this version").as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_fields_of_the_header_and_leave_paths_alone() {
        let header = include_str!("../../include/dovetail.h");
        let programs = ["nvidia-smi", "dovetail-run"];
        let names = Setting::ALL.iter().map(|setting| FieldNames.name(*setting));
        for name in names.filter(|name| !programs.contains(name)) {
            let mut words = header.split(|c: char| !(c.is_alphanumeric() || c == '_'));
            assert!(words.any(|word| word == name), "{name}");
        }
        let path = "a--tree-md b.gguf".into();
        let error = Error::Session { path, what: "is damaged".into() };
        assert_eq!(Failure::from(error).line, "a--tree-md b.gguf: is damaged");
        let choice = Setting::Tree.with("cost");
        let refusal = choice.clone().refuse("cuts trees").or_leave_out(choice);
        let failure = Failure::from(Error::from(refusal));
        assert_eq!(failure.status, DOVETAIL_ERROR_ARGUMENT);
        assert_eq!(failure.line, "tree cost cuts trees; leave it out");
        let damaged = Failure::from(Error::NotANumber { path: "a.gguf".into(), n_tokens: 3 });
        assert_eq!(damaged.status, DOVETAIL_ERROR_MODEL);
    }

    #[test]
    fn every_code_has_its_name() {
        assert_eq!(DOVETAIL_ERROR_INTERNAL as usize + 1, NAMES.len());
        let name = |status| {
            // SAFETY: it is a constant.
            unsafe { CStr::from_ptr(dovetail_status_string(status)) }.to_str().unwrap()
        };
        assert_eq!((name(0), name(6)), ("ok", "the buffer is too small"));
        for wrong in [-1, 17, i32::MAX, i32::MIN] {
            assert_eq!(name(wrong), "not a status of this version");
        }
    }
}
