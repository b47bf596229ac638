//! What the C interface costs: the same answer through `dovetail_session_generate` with a callback, and through
//! `Session::generate`, by turns. Less than 1 % is wanted. Both map the same packed weights, where the memory would
//! otherwise make a difference of percents, and grow trees of one size.
//!
//! The model is the one that `DOVETAIL_TEST_MODEL` names, or the default one of the cache directory.
//!
//! ```sh
//! cargo bench --bench capi
//! ```

mod common;

use common::{Side, print_ratio, threads};
use dovetail::capi::model::{dovetail_model, dovetail_model_free, dovetail_model_load};
use dovetail::capi::options::{dovetail_options, dovetail_sampling};
use dovetail::capi::piece::*;
use dovetail::capi::session::*;
use dovetail::capi::status::dovetail_status::{DOVETAIL_END, DOVETAIL_OK};
use dovetail::capi::steps::dovetail_session_next;
use dovetail::speculate::SpecOptions;
use dovetail::{LoadOptions, Model, Repack, Sampling, Session, SessionOptions, machine};
use std::ffi::{CStr, CString, c_char, c_void};
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};
use std::time::Instant;

const PROMPT: &str = "Once upon a time";
const N_PREDICT: usize = 128;
const N_CTX: usize = 1024;
const TREE: &CStr = c"chain:3";

fn main() {
    let default = || Some(machine::cache_folder()?.join("SmolLM2-135M-Instruct.Q4_1.gguf"));
    let named = std::env::var_os("DOVETAIL_TEST_MODEL").map(PathBuf::from);
    let Some(path) = named.or_else(default).filter(|path| path.exists()) else {
        eprintln!("SKIPPED: no model; set DOVETAIL_TEST_MODEL or run scripts/setup");
        return;
    };
    for (drafts, c_first) in [(false, true), (false, false), (true, true), (true, false)] {
        let first = c_first.then(|| C::new(&path, drafts));
        let mut rust = Rust::new(&path, drafts);
        let mut c = first.unwrap_or_else(|| C::new(&path, drafts));
        c.run();
        rust.run();
        assert_eq!(c.text, rust.text.as_bytes(), "both say the same");
        let case = if drafts { "with a drafter" } else { "without a drafter" };
        // What is allocated first may lie better.
        let first = if c_first { "C" } else { "Rust" };
        print_ratio(
            &format!("{N_PREDICT} tokens {case}, {first} made first"),
            "Rust",
            &mut c,
            &mut rust,
        );
        println!("  a call that has nothing to do: {:.0} ns", 1e9 * c.nothing());
    }
}

fn greedy() -> Sampling {
    Sampling { temperature: 0.0, ..Sampling::default() }
}

struct Rust {
    session: Session,
    prompt: Vec<u32>,
    text: String,
}

impl Rust {
    fn new(path: &Path, drafts: bool) -> Rust {
        let load = LoadOptions { threads: threads(), repack: Repack::Cache, ..Default::default() };
        let model = Model::load(path, load).expect("the model loads");
        let prompt = model.tokenizer().encode_prompt(PROMPT).expect("a text has tokens");
        let options = SessionOptions { n_ctx: N_CTX, threads: threads(), ..Default::default() };
        let mut session = Session::new(model.into(), options).expect("there is memory");
        let tree = Some(TREE.to_str().expect("it is text").parse().expect("it is a policy"));
        let drafting = SpecOptions { tree, ..SpecOptions::default() };
        let opened = drafting.open(session.setup(None)).expect("the drafter opens");
        if let Some(opened) = opened.filter(|_| drafts) {
            session.attach(opened, false, 1, &mut |_| true).expect("passes run");
        }
        Rust { session, prompt, text: String::new() }
    }
}

impl Side for Rust {
    fn run(&mut self) {
        self.text.clear();
        self.session.prompt(&self.prompt, &mut |_, _| true).expect("the prompt fits");
        for piece in self.session.generate(&greedy(), N_PREDICT) {
            self.text += &piece.expect("passes run").text;
        }
    }
}

struct C {
    model: *mut dovetail_model,
    session: *mut dovetail_session,
    text: Vec<u8>,
}

/// What a program in C does with a piece.
unsafe extern "C" fn append(userdata: *mut c_void, piece: *const dovetail_piece) -> bool {
    // SAFETY: the text is lent to the call that calls back, and the piece is as long as it says.
    unsafe {
        let piece = &*piece;
        let text = std::slice::from_raw_parts(piece.text.cast::<u8>(), piece.text_len);
        (*userdata.cast::<Vec<u8>>()).extend_from_slice(text);
    }
    true
}

impl C {
    fn new(path: &Path, drafts: bool) -> C {
        let path = CString::new(path.to_str().expect("the path is text")).expect("it has no NUL");
        let (mut model, mut session) = (null_mut(), null_mut());
        let mut options = dovetail_options {
            threads: threads() as u32,
            n_ctx: N_CTX as u32,
            repack: c"cache".as_ptr(),
            tree: TREE.as_ptr(),
            ..dovetail_options::default()
        };
        if !drafts {
            options.spec_type = c"none".as_ptr();
        }
        // SAFETY: all pointers are to what they should be.
        unsafe {
            assert_eq!(dovetail_model_load(path.as_ptr(), &options, &mut model), DOVETAIL_OK);
            assert_eq!(dovetail_session_new(model, &options, &mut session), DOVETAIL_OK);
        }
        C { model, session, text: Vec::new() }
    }
}

impl C {
    /// Seconds of a call whose answer has ended.
    fn nothing(&self) -> f64 {
        const TIMES: u32 = 100_000;
        let start = Instant::now();
        for _ in 0..TIMES {
            let mut piece = null();
            // SAFETY: all pointers are to what they should be.
            let ended = unsafe { dovetail_session_next(self.session, &mut piece) };
            assert_eq!(ended, DOVETAIL_END);
        }
        start.elapsed().as_secs_f64() / f64::from(TIMES)
    }
}

impl Side for C {
    fn run(&mut self) {
        self.text.clear();
        let greedy = dovetail_sampling { temperature: 0.0, ..dovetail_sampling::default() };
        let prompt = PROMPT.as_ptr().cast::<c_char>();
        let text = (&raw mut self.text).cast::<c_void>();
        // SAFETY: all pointers are to what they should be.
        unsafe {
            let read = dovetail_session_prompt_text(self.session, prompt, PROMPT.len());
            assert_eq!(read, DOVETAIL_OK);
            let n = N_PREDICT;
            let written = dovetail_session_generate(self.session, &greedy, n, Some(append), text);
            assert_eq!(written, DOVETAIL_OK);
        }
    }
}

impl Drop for C {
    fn drop(&mut self) {
        dovetail_session_free(self.session);
        dovetail_model_free(self.model);
    }
}
