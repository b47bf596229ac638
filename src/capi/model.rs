//! Models.

use super::handle::{self, Handle};
use super::observer::CallbackObserver;
use super::options::{Settings, dovetail_options};
use super::panic;
use super::pointer::{self, Versioned};
use super::status::Failure;
use super::status::dovetail_status::{self, DOVETAIL_ERROR_TEMPLATE, DOVETAIL_OK};
use crate::model;
use crate::text::ChatTemplate;
use std::ffi::{CString, c_char, c_void};
use std::mem::offset_of;
use std::path::{Path, PathBuf};
use std::ptr::null;
use std::sync::Arc;

/// A model: weights and vocabulary. Any number of sessions share it.
pub struct dovetail_model {
    _opaque: (),
}

impl Handle for dovetail_model {
    type Object = Model;
    const NAME: &'static str = "model";
}

/// A description of a model.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dovetail_model_info {
    /// sizeof(dovetail_model_info), set by the caller.
    pub size: usize,
    /// Its name, and its architecture as GGUF names it. Both are valid as long as the model.
    pub name: *const c_char,
    /// See `name`.
    pub architecture: *const c_char,
    /// Size of its weights in its files, in bytes.
    pub bytes: u64,
    /// Length of the context that it was trained for, in tokens.
    pub n_ctx: u32,
    /// Number of tokens of its vocabulary.
    pub n_vocab: u32,
    /// Width of a hidden state.
    pub n_embd: u32,
    /// Number of its layers.
    pub n_layers: u32,
    /// The tokens that begin a text, end a text, and end a turn of a chat; -1 if the model has none.
    pub token_bos: i32,
    /// See `token_bos`.
    pub token_eos: i32,
    /// See `token_bos`.
    pub token_eot: i32,
    /// Whether it has a chat template, its own or that of the options. True also if its own template cannot be parsed;
    /// functions that need it then return DOVETAIL_ERROR_TEMPLATE.
    pub has_chat_template: bool,
}

// SAFETY: it is `repr(C)` and begins with its size; it is only written.
unsafe impl Versioned for dovetail_model_info {
    const NAME: &'static str = "dovetail_model_info";
    const MIN_BYTES: usize = offset_of!(Self, has_chat_template) + size_of::<bool>();
    const BOOLS: &'static [usize] = &[];
}

/// Loads a model from a GGUF file, or from any part of a split one, and returns its handle in `model`. The first load
/// of a large model packs its weights into a file in the cache directory, which later loads map: see `repack`.
/// `options` may be NULL; they also apply to sessions that are created without options. The environment variable
/// DOVETAIL_CACHE sets the cache directory, DOVETAIL_ISA the instruction set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dovetail_model_load(
    path: *const c_char,
    options: *const dovetail_options,
    model: *mut *mut dovetail_model,
) -> dovetail_status {
    panic::call(null::<c_void>(), || {
        pointer::not_null(model, "model")?;
        // SAFETY: as the head of `capi` requires.
        let (path, settings) = unsafe { (pointer::path(path, "path")?, Settings::read(options)?) };
        let loaded = Arc::new(Model::load(&path, settings)?);
        // SAFETY: it is not NULL.
        unsafe { pointer::put(model, handle::add(loaded)) };
        Ok(DOVETAIL_OK)
    })
}

/// Frees a model. Its sessions keep what they need of it.
#[unsafe(no_mangle)]
pub extern "C" fn dovetail_model_free(model: *mut dovetail_model) {
    panic::value((), || drop(handle::remove(model)));
}

/// Writes the description of a model to `info`, whose size the caller has set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dovetail_model_get_info(
    model: *const dovetail_model,
    info: *mut dovetail_model_info,
) -> dovetail_status {
    panic::call(model, || {
        let model = handle::get(model)?;
        let (config, tokenizer) = (model.model.config(), model.model.tokenizer());
        let token = |token: Option<u32>| token.map_or(-1, |token| token as i32);
        let found = dovetail_model_info {
            size: 0,
            name: model.name.as_ptr(),
            architecture: model.architecture.as_ptr(),
            bytes: model.model.gguf().total_bytes(),
            n_ctx: config.n_ctx as u32,
            n_vocab: config.n_vocab as u32,
            n_embd: config.n_embd as u32,
            n_layers: config.n_layers as u32,
            token_bos: token(tokenizer.bos()),
            token_eos: token(tokenizer.eos()),
            token_eot: token(tokenizer.eot()),
            has_chat_template: !matches!(model.template, Ok(None)),
        };
        // SAFETY: as the head of `capi` requires.
        unsafe { pointer::put_sized(info, found) }?;
        Ok(DOVETAIL_OK)
    })
}

/// The object behind a model's handle.
pub(super) struct Model {
    pub model: Arc<model::Model>,
    /// The model's chat template, or why it cannot be used.
    template: Result<Option<ChatTemplate>, String>,
    /// The options that it was loaded with.
    pub settings: Settings,
    path: PathBuf,
    name: CString,
    architecture: CString,
}

impl Model {
    fn load(path: &Path, settings: Settings) -> Result<Model, Failure> {
        let given = settings.template()?;
        let callbacks = &settings.callbacks;
        let mut observer = CallbackObserver { callbacks, is_cancelled: &|| false, drafter: None };
        let model = settings.options.model(path, &mut observer)?;
        let template = match given {
            // A model with a broken template can still be used for all but chat.
            None => ChatTemplate::from_gguf(model.gguf().metadata())
                .map_err(|error| Failure::from(error).line),
            given => Ok(given),
        };
        Ok(Model {
            name: pointer::c_string(&model.config().name),
            architecture: pointer::c_string(&model.config().arch),
            model,
            template,
            path: path.to_owned(),
            settings,
        })
    }

    /// The chat template.
    pub fn template(&self) -> Result<&ChatTemplate, Failure> {
        let path = self.path.display();
        let line = match &self.template {
            Ok(Some(template)) => return Ok(template),
            Ok(None) => format!(
                "{path}: the model has no chat template; name one in the options, \"chatml\" say, or give a \
                 prompt as text"
            ),
            Err(why) => format!("{path}: {why}"),
        };
        Err(Failure::new(DOVETAIL_ERROR_TEMPLATE, line))
    }
}
