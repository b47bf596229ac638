//! A changed file of a drafter: opening it ends without a panic, and if it opens, the text is the one without it.
//!
//! `cargo +nightly fuzz run drafter`
#![no_main]

#[path = "../../tests/common/mod.rs"]
mod common;
mod edits;

use common::drafter::SHAPES;
use common::tiny::{N_CTX, N_VOCAB, tiny};
use dovetail::draft::{self, DrafterContext, Placement};
use dovetail::speculate::Speculation;
use dovetail::{Model, Session, SessionOptions};
use libfuzzer_sys::fuzz_target;
use std::sync::{Arc, LazyLock, Mutex};
use tempfile::TempDir;

struct Place {
    folder: TempDir,
    model: Arc<Model>,
    session: Session,
    /// A file of each shape, and a small model.
    files: Vec<(&'static str, Vec<u8>)>,
    /// The prompt and the answer without a drafter.
    expected: Vec<u32>,
}

const PROMPT_TOKENS: usize = 12;

static PLACE: LazyLock<Mutex<Place>> = LazyLock::new(|| {
    let t = tiny("f32");
    let model = Arc::new(t.parts().load().expect("it is a model"));
    let shapes = SHAPES.iter().map(|shape| ("dgf", shape.parts(t, &model).bytes()));
    let files = shapes.chain([("lm", tiny("q8_0").parts().bytes())]).collect();
    let options = SessionOptions { n_ctx: 64, threads: 1, n_ubatch: 16, ..Default::default() };
    let mut session = Session::new(model.clone(), options).expect("there is memory");
    let expected = answer(&mut session);
    let folder = tempfile::tempdir().expect("there is room");
    Mutex::new(Place { folder, model, session, files, expected })
});

fn answer(session: &mut Session) -> Vec<u32> {
    let prompt = common::bits::sequence(PROMPT_TOKENS, N_VOCAB, 7);
    common::answers::write(session, &prompt, &common::answers::greedy(), 6).0
}

fuzz_target!(|data: &[u8]| {
    let Some((which, data)) = data.split_first() else { return };
    let Place { folder, model, session, files, expected } =
        &mut *PLACE.lock().expect("no panic is survived");
    let (kind, whole) = &files[usize::from(*which) % files.len()];
    let path = folder.path().join("drafter.gguf");
    std::fs::write(&path, edits::edited(whole, data)).expect("there is room");
    let setup = DrafterContext {
        target: model,
        n_ctx: N_CTX as usize,
        threads: 1,
        path: Some(&path),
        placement: Placement::CPU,
    };
    let open = draft::kind(kind).expect("there is this kind").open;
    let Ok(drafter) = open(&setup) else { return };
    let speculation = Speculation::new(drafter, "beam:3,2,6".parse().expect("it is a tree"));
    if session.speculate(Some(speculation)).is_ok() {
        assert_eq!(answer(session), *expected, "no drafter changes the text");
    }
    session.speculate(None).expect("nobody asks for nothing");
});
