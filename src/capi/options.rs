//! Options for loading a model and for its sessions, in one structure. NULL instead of it means the defaults, which are
//! those of dovetail-run: a drafter that is found for the model is used. Names are the values of dovetail-run's flags.
//! Names and paths are copied; callbacks and `userdata` are kept as long as the model or session lives.

use super::panic;
use super::pointer::{self, Versioned};
use super::status::Failure;
use super::status::dovetail_status::{self, DOVETAIL_OK};
use crate::draft::SpecType;
use crate::engine::SessionOptions;
use crate::gguf::OpenOptions;
use crate::infer::{CacheTypes, MAX_SEQUENCES};
use crate::machine;
use crate::model::{Repack, RopeOptions};
use crate::open::Options;
use crate::sample::Sampling;
use crate::speculate::SpecOptions;
use crate::text::ChatTemplate;
use std::ffi::{c_char, c_void};
use std::mem::offset_of;
use std::path::PathBuf;
use std::ptr::null;
use std::str::FromStr;

/// Work that takes long enough to report its progress.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum dovetail_stage {
    /// The weights are packed, or read for the first time since the system started.
    DOVETAIL_STAGE_LOADING = 0,
    /// The costs of passes on this machine are measured, once for each model: see `tree`.
    DOVETAIL_STAGE_MEASURING = 1,
    /// A prompt is read.
    DOVETAIL_STAGE_PROMPT = 2,
}

/// The importance of a line.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum dovetail_log_level {
    /// Something that people should know.
    DOVETAIL_LOG_NOTE = 0,
    /// A detail that helps to find the cause of a problem.
    DOVETAIL_LOG_DETAIL = 1,
}

/// Receives the progress of a stage, `part` from 0 to 1. Returns false to cancel it.
pub type dovetail_progress_callback =
    Option<unsafe extern "C" fn(userdata: *mut c_void, stage: dovetail_stage, part: f64) -> bool>;

/// Receives a line for people, without a newline.
pub type dovetail_log_callback = Option<
    unsafe extern "C" fn(userdata: *mut c_void, level: dovetail_log_level, line: *const c_char),
>;

/// How a model is loaded and how its sessions are created. Let dovetail_options_init fill it, then change fields. In
/// every field 0 or NULL is the default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dovetail_options {
    /// sizeof(dovetail_options).
    pub size: usize,
    /// Passed to both callbacks.
    pub userdata: *mut c_void,
    /// Receives the progress of long work; returns false to cancel it.
    pub progress: dovetail_progress_callback,
    /// Receives lines for people.
    pub log: dovetail_log_callback,

    /// Number of threads of each session, and for loading; 0 for the number of physical cores. Divide the cores among
    /// sessions that run side by side.
    pub threads: u32,
    /// Context length: most tokens of a session, prompts and answers together; 0 for as many as the model was trained
    /// for and memory holds.
    pub n_ctx: u32,
    /// Most prompt tokens in one pass; 0 for 512. Each session has buffers for this many.
    pub n_ubatch: u32,
    /// Number of sessions of the model, 1 to 16, that will step together (dovetail_step), so that their costs are
    /// measured too; 0 for 1.
    pub n_together: u32,

    /// Where weights are packed: "auto", "cache" (a file in the cache directory that the next load maps), "memory" or
    /// "off"; NULL for "auto".
    pub repack: *const c_char,
    /// Chat template in place of the model's: a name such as "chatml", or a Jinja template; NULL for the model's.
    pub chat_template: *const c_char,
    /// Types of keys and values in the KV cache, "f16", "bf16", "q8_0", "q5_1", "q4_0" or "f32"; NULL for "f16". The text
    /// depends on them.
    pub cache_type_k: *const c_char,
    /// See `cache_type_k`.
    pub cache_type_v: *const c_char,
    /// Hold the weights in memory instead of mapping a file.
    pub no_mmap: bool,
    /// Keep the weights from being swapped out.
    pub mlock: bool,

    /// The kind of drafter: "auto" (`model_draft`, or the drafter that is found for the model), "none", "ngram", "lm"
    /// or "dgf"; NULL for "auto".
    pub spec_type: *const c_char,
    /// The drafter's file; NULL for the one that is found for the model.
    pub model_draft: *const c_char,
    /// How large draft trees are: "cost", as large as pays on this machine, which is measured for some seconds at the
    /// first use of a model; or "chain:4", "beam:4,3,9", "eagle2:60", "cast". NULL for "cost".
    pub tree: *const c_char,
    /// Which draft tokens are accepted: "matching", those that plain decoding samples; "rejection", more of them at
    /// high temperatures, with another text from the same distribution. NULL for "matching".
    pub spec_sampling: *const c_char,
    /// Device of a trained drafter: "auto", "cpu", "gpu", or "gpu0" and so on; NULL for "auto".
    pub draft_device: *const c_char,
    /// Bytes of GPU memory that a drafter may use; 0 for all.
    pub vram_limit: u64,
    /// Most draft tokens on a path, up to 63; 0 for the depth of `tree`.
    pub draft_n_max: u32,
    /// Least probability of a path, as the drafter sees it; less likely draft tokens are left out. 0 for the drafter's
    /// own value.
    pub draft_p_min: f32,

    /// How positions are stretched, in place of what the file says: "none", "linear" or "yarn"; NULL for what it says.
    /// A context longer than the model was trained for needs this, `rope_scale` or `rope_freq_base`. These four fields
    /// count when a model is loaded.
    pub rope_scaling: *const c_char,
    /// How many times as many positions there are as in training; 0 for what the file says.
    pub rope_scale: f32,
    /// The base of rotations; 0 for what the file says.
    pub rope_freq_base: f32,
    /// YaRN: the context length of the training; 0 for what the file says.
    pub yarn_orig_ctx: u32,
}

/// How tokens are sampled, and how an answer ends. Let dovetail_sampling_init fill it, then change fields. NULL instead
/// of it means those defaults. They are llama.cpp's except for the seed, which is 0 and not random.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct dovetail_sampling {
    /// sizeof(dovetail_sampling).
    pub size: usize,
    /// Seed of the random numbers; 0 by default.
    pub seed: u64,
    /// Divides the logits; at 0 the most likely token is always taken. 0.8 by default.
    pub temperature: f32,
    /// Keeps this many of the most likely tokens; 0 keeps all. 40 by default.
    pub top_k: u32,
    /// Keeps the most likely tokens that together have this probability; 1 keeps all. 0.95 by default.
    pub top_p: f32,
    /// Drops tokens less likely than this fraction of the most likely one; 0 keeps all. 0.05 by default.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of recent tokens; 1, the default, changes nothing.
    pub repeat_penalty: f32,
    /// Number of last tokens that are recent; 0 for none, -1 for the whole context. 64 by default.
    pub repeat_last_n: i32,
    /// Subtracted from the logits of recent tokens; 0 by default.
    pub presence_penalty: f32,
    /// Subtracted from the logits of recent tokens once for each occurrence; 0 by default.
    pub frequency_penalty: f32,
    /// Whether to forbid the tokens with which the model ends its answer, so that it goes on; false by default.
    pub ignore_eos: bool,
    /// When the session's drafter is used for this answer, one of dovetail_drafting; DOVETAIL_DRAFTING_AUTO by default.
    pub drafting: u32,
    /// Array of values that are added to the logits of tokens before penalties and temperature, and its length; none by
    /// default.
    pub logit_bias: *const dovetail_logit_bias,
    /// See `logit_bias`.
    pub n_logit_bias: usize,
    /// Array of texts, each ending in a NUL, that end the answer and are not part of it, and its length. The text of a
    /// control token ends the answer at that token. None by default.
    pub stop: *const *const c_char,
    /// See `stop`.
    pub n_stop: usize,
    /// Number of likeliest tokens that each piece reports if `logprobs` is set; 0 by default.
    pub n_top_logprobs: u32,
    /// Whether pieces report the log-probabilities of their tokens; false by default.
    pub logprobs: bool,
    /// What kind of grammar `grammar` is, one of dovetail_grammar; DOVETAIL_GRAMMAR_JSON_SCHEMA by default.
    pub grammar_type: u32,
    /// The answer is a text that this grammar allows; NULL, the default, allows all. Ends with a NUL.
    pub grammar: *const c_char,
    /// The grammar begins behind the first occurrence of this text in the answer, such as the end of what the model
    /// thinks; NULL, the default, for the beginning of the answer. Ends with a NUL.
    pub grammar_after: *const c_char,
}

/// A kind of grammar.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum dovetail_grammar {
    /// A JSON schema; `{}` allows any JSON value.
    DOVETAIL_GRAMMAR_JSON_SCHEMA = 0,
    /// llama.cpp's GBNF.
    DOVETAIL_GRAMMAR_GBNF = 1,
    /// A regular expression that matches the whole answer.
    DOVETAIL_GRAMMAR_REGEX = 2,
    /// A Lark grammar in llguidance's dialect.
    DOVETAIL_GRAMMAR_LARK = 3,
}

/// When a drafter is used. The text does not depend on it, unless `spec_sampling` is "rejection".
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum dovetail_drafting {
    /// When it pays.
    DOVETAIL_DRAFTING_AUTO = 0,
    /// Never.
    DOVETAIL_DRAFTING_OFF = 1,
    /// Always.
    DOVETAIL_DRAFTING_ON = 2,
}

/// A value added to the logit of a token; -INFINITY forbids the token.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct dovetail_logit_bias {
    /// The token.
    pub token: u32,
    /// The value that is added.
    pub bias: f32,
}

// SAFETY: it is `repr(C)` and begins with its size; the rest is pointers, numbers and functions that may be NULL.
unsafe impl Versioned for dovetail_options {
    const NAME: &'static str = "dovetail_options";
    const MIN_BYTES: usize = offset_of!(Self, draft_p_min) + size_of::<f32>();
    const BOOLS: &'static [usize] = &[offset_of!(Self, no_mmap), offset_of!(Self, mlock)];
}

// SAFETY: it is `repr(C)` and begins with its size; the rest is numbers, and pointers that may be NULL.
unsafe impl Versioned for dovetail_sampling {
    const NAME: &'static str = "dovetail_sampling";
    const MIN_BYTES: usize = offset_of!(Self, ignore_eos) + size_of::<bool>();
    const BOOLS: &'static [usize] = &[offset_of!(Self, ignore_eos), offset_of!(Self, logprobs)];
}

/// Fills options with the defaults. `size` is sizeof(dovetail_options).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dovetail_options_init(
    options: *mut dovetail_options,
    size: usize,
) -> dovetail_status {
    panic::call(null::<c_void>(), || {
        // SAFETY: as the head of `capi` requires.
        unsafe { pointer::write(options, size, dovetail_options::default()) }?;
        Ok(DOVETAIL_OK)
    })
}

/// Fills sampling options with the defaults. `size` is sizeof(dovetail_sampling).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dovetail_sampling_init(
    sampling: *mut dovetail_sampling,
    size: usize,
) -> dovetail_status {
    panic::call(null::<c_void>(), || {
        // SAFETY: as the head of `capi` requires.
        unsafe { pointer::write(sampling, size, dovetail_sampling::default()) }?;
        Ok(DOVETAIL_OK)
    })
}

impl Default for dovetail_options {
    fn default() -> Self {
        dovetail_options {
            size: size_of::<Self>(),
            userdata: std::ptr::null_mut(),
            progress: None,
            log: None,
            threads: 0,
            n_ctx: 0,
            n_ubatch: 0,
            n_together: 0,
            repack: null(),
            chat_template: null(),
            cache_type_k: null(),
            cache_type_v: null(),
            no_mmap: false,
            mlock: false,
            spec_type: null(),
            model_draft: null(),
            tree: null(),
            spec_sampling: null(),
            draft_device: null(),
            vram_limit: 0,
            draft_n_max: 0,
            draft_p_min: 0.0,
            rope_scaling: null(),
            rope_scale: 0.0,
            rope_freq_base: 0.0,
            yarn_orig_ctx: 0,
        }
    }
}

impl Default for dovetail_sampling {
    fn default() -> Self {
        let s = Sampling::default();
        dovetail_sampling {
            size: size_of::<Self>(),
            seed: s.seed,
            temperature: s.temperature,
            top_k: s.top_k as u32,
            top_p: s.top_p,
            min_p: s.min_p,
            repeat_penalty: s.repeat_penalty,
            repeat_last_n: s.repeat_last_n,
            presence_penalty: s.presence_penalty,
            frequency_penalty: s.frequency_penalty,
            ignore_eos: false,
            drafting: 0,
            logit_bias: null(),
            n_logit_bias: 0,
            stop: null(),
            n_stop: 0,
            n_top_logprobs: 0,
            logprobs: false,
            grammar_type: 0,
            grammar: null(),
            grammar_after: null(),
        }
    }
}

/// C's callbacks, and the `userdata` that they receive.
#[derive(Clone)]
pub(super) struct Callbacks {
    userdata: *mut c_void,
    progress: dovetail_progress_callback,
    log: dovetail_log_callback,
}

// SAFETY: callers know that callbacks run on whatever thread makes the call, with this `userdata`.
unsafe impl Send for Callbacks {}
// SAFETY: the same.
unsafe impl Sync for Callbacks {}

impl Callbacks {
    /// Reports progress. Returns whether to go on.
    pub fn progress(&self, stage: dovetail_stage, part: f64) -> bool {
        // SAFETY: C passed both for this purpose.
        self.progress.is_none_or(|tell| unsafe { tell(self.userdata, stage, part) })
    }

    /// Reports lines for people.
    pub fn log(&self, level: dovetail_log_level, line: &str) {
        let Some(tell) = self.log else { return };
        for line in line.lines() {
            let line = pointer::c_string(line);
            // SAFETY: C passed both for this purpose.
            unsafe { tell(self.userdata, level, line.as_ptr()) }
        }
    }
}

/// Options, read and checked.
#[derive(Clone)]
pub(super) struct Settings {
    pub callbacks: Callbacks,
    /// The chat template in place of the model's.
    pub template: Option<String>,
    pub options: Options,
}

impl Settings {
    /// Reads a structure; the defaults if it is NULL.
    ///
    /// # Safety
    /// See `pointer.rs`.
    pub unsafe fn read(options: *const dovetail_options) -> Result<Settings, Failure> {
        // SAFETY: as `pointer.rs` requires.
        let o = unsafe { pointer::read(options) }?.unwrap_or_default();
        let or = |n: u32, usual: usize| if n == 0 { usual } else { n as usize };
        let n_together = or(o.n_together, 1);
        if n_together > MAX_SEQUENCES {
            let line = format!("n_together is {n_together}; {MAX_SEQUENCES} at most");
            return Err(Failure::argument(line));
        }
        // SAFETY: names and paths are NULL or end in a NUL, as `pointer.rs` requires.
        let (speculation, cache, repack, rope, template) = unsafe {
            let speculation = SpecOptions {
                kind: parse(o.spec_type, "spec_type")?.unwrap_or(SpecType::Auto),
                file: file(o.model_draft)?,
                tree: parse(o.tree, "tree")?,
                depth: Some(o.draft_n_max as usize).filter(|n| *n > 0),
                p_min: Some(o.draft_p_min).filter(|p| *p != 0.0),
                sampling: parse(o.spec_sampling, "spec_sampling")?.unwrap_or_default(),
                device: parse(o.draft_device, "draft_device")?.unwrap_or_default(),
                vram_limit: usize::try_from(o.vram_limit).ok().filter(|bytes| *bytes > 0),
                // Sessions come and go.
                alone: false,
            };
            let cache = CacheTypes {
                keys: parse(o.cache_type_k, "cache_type_k")?.unwrap_or_default(),
                values: parse(o.cache_type_v, "cache_type_v")?.unwrap_or_default(),
            };
            let repack = parse(o.repack, "repack")?.unwrap_or(Repack::Auto);
            let rope = RopeOptions {
                scaling: parse(o.rope_scaling, "rope_scaling")?,
                factor: given(o.rope_scale),
                base: given(o.rope_freq_base),
                original_context: Some(o.yarn_orig_ctx as usize).filter(|n| *n > 0),
                ..RopeOptions::default()
            };
            (
                speculation,
                cache,
                repack,
                rope,
                pointer::name(o.chat_template, "chat_template")?.map(str::to_owned),
            )
        };
        speculation.check()?;
        let callbacks = Callbacks { userdata: o.userdata, progress: o.progress, log: o.log };
        let session = SessionOptions {
            n_ctx: o.n_ctx as usize,
            threads: or(o.threads, machine::physical_cores()),
            n_ubatch: or(o.n_ubatch, 512),
            cache,
        };
        session.check()?;
        let options = Options {
            open: OpenOptions { no_mmap: o.no_mmap, mlock: o.mlock },
            repack,
            rope,
            session,
            speculation,
            n_together,
            ..Options::default()
        };
        Ok(Settings { callbacks, template, options })
    }

    /// The chat template in place of the model's.
    pub fn template(&self) -> Result<Option<ChatTemplate>, Failure> {
        Ok(self.template.as_deref().map(ChatTemplate::given).transpose()?)
    }
}

/// Parses the name that is a field's value; `None` for NULL.
///
/// # Safety
/// See `pointer.rs`.
unsafe fn parse<T: FromStr<Err: std::fmt::Display>>(
    from: *const c_char,
    field: &str,
) -> Result<Option<T>, Failure> {
    // SAFETY: as `pointer.rs` requires.
    let Some(name) = unsafe { pointer::name(from, field) }? else { return Ok(None) };
    let wrong = |why| Failure::argument(format!("{field} cannot be \"{name}\": {why}"));
    name.parse().map(Some).map_err(wrong)
}

/// A number; `None` for 0.
fn given(number: f32) -> Option<f64> {
    Some(f64::from(number)).filter(|x| *x != 0.0)
}

/// A path; `None` for NULL.
///
/// # Safety
/// See `pointer.rs`.
unsafe fn file(from: *const c_char) -> Result<Option<PathBuf>, Failure> {
    if from.is_null() {
        return Ok(None);
    }
    // SAFETY: as `pointer.rs` requires.
    unsafe { pointer::path(from, "model_draft") }.map(Some)
}
