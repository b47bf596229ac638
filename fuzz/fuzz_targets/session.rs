//! A changed session file, or any bytes as one: loading it ends without a panic, and if it loads, the session goes on.
//!
//! The checksum of a changed file is made right again, since nothing behind it would be reached otherwise.
//! `cargo +nightly fuzz run session`
#![no_main]

#[path = "../../tests/common/mod.rs"]
mod common;
mod edits;

use common::drafter::SHAPES;
use common::tiny::{N_VOCAB, tiny};
use dovetail::speculate::Speculation;
use dovetail::{Sampling, Session, SessionOptions};
use libfuzzer_sys::fuzz_target;
use std::sync::{Arc, LazyLock, Mutex};
use tempfile::TempDir;
use twox_hash::XxHash3_64;

/// Bytes of the checksum at a file's end.
const SUM_BYTES: usize = 8;

struct Place {
    folder: TempDir,
    session: Session,
    whole: Vec<u8>,
}

static PLACE: LazyLock<Mutex<Place>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("there is room");
    let t = tiny("f32");
    let model = Arc::new(t.parts().load().expect("it is a model"));
    let drafter = common::open_drafter("dgf", &SHAPES[0].parts(t, &model), &model);
    let speculation = Speculation::new(
        drafter.expect("it is a drafter"),
        "chain:3".parse().expect("it is a tree"),
    );
    let options = SessionOptions { n_ctx: 128, threads: 1, n_ubatch: 16, ..Default::default() };
    let mut session = Session::new(model, options).expect("there is memory");
    session.speculate(Some(speculation)).expect("the drafter fits");
    common::answers::write(
        &mut session,
        &common::bits::sequence(20, N_VOCAB, 7),
        &common::answers::greedy(),
        9,
    );
    let path = folder.path().join("whole");
    session.save(&path).expect("it can be written");
    let whole = std::fs::read(path).expect("it was written");
    Mutex::new(Place { folder, session, whole })
});

fuzz_target!(|data: &[u8]| {
    let Some((how, data)) = data.split_first() else { return };
    let Place { folder, session, whole } = &mut *PLACE.lock().expect("no panic is survived");
    let mut bytes = if how & 1 == 0 { edits::edited(whole, data) } else { data.to_vec() };
    if how & 2 == 0
        && let Some(end) = bytes.len().checked_sub(SUM_BYTES)
    {
        let sum = XxHash3_64::oneshot(&bytes[..end]);
        bytes[end..].copy_from_slice(&sum.to_le_bytes());
    }
    let path = folder.path().join("session");
    std::fs::write(&path, bytes).expect("there is room");
    if session.load(&path).is_ok() && !session.tokens().is_empty() {
        let pieces = session.generate(&Sampling::default(), 3).ignore_end();
        assert!(pieces.count() <= 4);
        session.save(&path).expect("it can be written");
    }
});
