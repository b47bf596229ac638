//! Session files: the text goes on as if nothing had happened, the drafter drafts what it would have drafted,
//! and what is no session of this model is refused.

mod common;

use common::answers::{generation, greedy, warm, write};
use common::bits::{cache_types, sequence, tiny_models};
use common::drafter::SHAPES;
use common::open_drafter;
use common::tiny::{N_VOCAB, tiny};
use dovetail::draft::{DraftJob, DraftState, Drafter, NGram, RoundContext};
use dovetail::infer::CacheTypes;
use dovetail::speculate::Speculation;
use dovetail::{Model, Result, Sampling, Session, SessionOptions};
use dovetail_kernels::cpu::ThreadPool;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// A tree as it was grown: tokens, masks and the bits of the probabilities.
type Grown = (Vec<u32>, Vec<u64>, Vec<u32>);

/// Writes down what another drafter grows.
struct Watched(Box<dyn Drafter>, Arc<Mutex<Vec<Grown>>>);

impl Drafter for Watched {
    fn taps(&self) -> &[usize] {
        self.0.taps()
    }

    fn state(&mut self) -> Result<DraftState> {
        self.0.state()
    }

    fn commit(
        &mut self,
        state: &mut DraftState,
        first: usize,
        tokens: &[u32],
        features: &mut dyn Iterator<Item = &[f32]>,
        pool: &mut ThreadPool,
    ) -> Result<()> {
        self.0.commit(state, first, tokens, features, pool)
    }

    fn expand(&mut self, jobs: &mut [DraftJob], round: &mut RoundContext) {
        self.0.expand(jobs, round);
        for tree in jobs.iter().map(|job| job.tree.tree()) {
            let bits = tree.log_probs().iter().map(|p| p.to_bits()).collect();
            self.1.lock().unwrap().push((tree.tokens().to_vec(), tree.masks().to_vec(), bits));
        }
    }

    fn save(&mut self, state: &mut DraftState, out: &mut Vec<u8>) -> Result<()> {
        self.0.save(state, out)
    }

    fn restore(&mut self, state: &mut DraftState, tokens: &[u32], saved: &[u8]) -> Result<bool> {
        self.0.restore(state, tokens, saved)
    }
}

fn options(n_ctx: usize, cache: CacheTypes) -> SessionOptions {
    SessionOptions { n_ctx, threads: 2, n_ubatch: 24, cache }
}

/// A place for a session file.
fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.session");
    (folder, path)
}

/// The next `n` tokens.
fn go_on(session: &mut Session, how: &Sampling, n: usize) -> Vec<u32> {
    let before = session.tokens().len();
    session.generate(how, n).ignore_end().for_each(|piece| drop(piece.unwrap()));
    session.tokens()[before..].to_vec()
}

#[test]
fn the_text_goes_on_as_if_nothing_had_happened() {
    for (t, model) in tiny_models() {
        for cache in cache_types() {
            let (_folder, path) = place();
            let mut session = Session::new(model.clone(), options(400, cache)).unwrap();
            session.speculate(ngram()).unwrap();
            write(&mut session, &sequence(40, N_VOCAB, 7), &warm(3), 20);
            session.save(&path).unwrap();
            let expected = go_on(&mut session, &warm(3), 30);
            // In a session with another context, that was in the middle of something else.
            for n_ctx in [100, 500] {
                let mut other = Session::new(model.clone(), options(n_ctx, cache)).unwrap();
                write(&mut other, &sequence(9, N_VOCAB, 8), &greedy(), 5);
                other.load(&path).unwrap();
                assert_eq!(other.tokens().len(), 60);
                assert_eq!(go_on(&mut other, &warm(3), 30), expected, "{}", t.name);
            }
        }
    }
}

fn ngram() -> Option<Speculation> {
    Some(Speculation::new(Box::new(NGram), "chain:5".parse().unwrap()))
}

/// Whoever drafts, trees behind a loaded sequence are those behind the sequence that was saved.
#[test]
fn the_drafter_goes_on_as_if_nothing_had_happened() {
    let t = tiny("q4_1");
    let model = Arc::new(t.parts().load().unwrap());
    // All tokens are draft tokens here: a vocabulary that texts add to may have grown by the loaded answer.
    let trained = SHAPES.iter().filter(|shape| shape.every == 1);
    let mut drafters: Vec<(&str, _)> =
        trained.map(|shape| ("dgf", shape.parts(t, &model))).collect();
    drafters.push(("lm", tiny("f32").parts()));
    for (kind, parts) in drafters {
        let grown = || Arc::new(Mutex::new(Vec::new()));
        let open = |grown: &Arc<Mutex<Vec<Grown>>>| {
            let drafter = open_drafter(kind, &parts, &model).unwrap();
            let watched = Watched(drafter, grown.clone());
            let mut session =
                Session::new(model.clone(), options(400, CacheTypes::default())).unwrap();
            let growth = "beam:4,3,9".parse().unwrap();
            session.speculate(Some(Speculation::new(Box::new(watched), growth))).unwrap();
            session
        };
        for n in [1, 2, 3, 17] {
            let (_folder, path) = place();
            let (first, second) = (grown(), grown());
            let mut session = open(&first);
            write(&mut session, &sequence(40, N_VOCAB, 7), &greedy(), n);
            session.save(&path).unwrap();
            first.lock().unwrap().clear();
            let expected = go_on(&mut session, &greedy(), 30);
            let mut other = open(&second);
            write(&mut other, &sequence(90, N_VOCAB, 9), &greedy(), 3);
            other.load(&path).unwrap();
            second.lock().unwrap().clear();
            assert_eq!(go_on(&mut other, &greedy(), 30), expected, "{kind}");
            assert_eq!(*first.lock().unwrap(), *second.lock().unwrap(), "{kind} after {n}");
            assert!(second.lock().unwrap().len() > 5, "there were rounds to compare");
        }
    }
}

/// A drafter that did not save the file joins there; the next prompt tells it all.
#[test]
fn another_drafter_joins() {
    let t = tiny("q4_1");
    let model = Arc::new(t.parts().load().unwrap());
    let session = |shape: Option<usize>| {
        let mut session = Session::new(model.clone(), options(400, CacheTypes::default())).unwrap();
        if let Some(shape) = shape {
            let drafter = open_drafter("dgf", &SHAPES[shape].parts(t, &model), &model).unwrap();
            let growth = "chain:3".parse().unwrap();
            session.speculate(Some(Speculation::new(drafter, growth))).unwrap();
        }
        session
    };
    let prompt = sequence(40, N_VOCAB, 7);
    for (saves, loads) in [(Some(0), Some(3)), (None, Some(0)), (Some(0), None)] {
        let (_folder, path) = place();
        let mut first = session(saves);
        write(&mut first, &prompt, &greedy(), 12);
        first.save(&path).unwrap();
        let expected = go_on(&mut first, &greedy(), 20);
        let mut other = session(loads);
        other.load(&path).unwrap();
        assert_eq!(go_on(&mut other, &greedy(), 20), expected);
        assert!(other.take_drafter_error().is_none());
        let again = [&prompt[..], &[5, 6, 7]].concat();
        let mut told = session(loads);
        told.load(&path).unwrap();
        told.prompt(&again, &mut |_, _| true).unwrap();
        let cached = if loads.is_some() { 0 } else { prompt.len() };
        assert_eq!(told.stats().cached_n, cached, "a drafter that missed it is told all");
        first.prompt(&again, &mut |_, _| true).unwrap();
        assert_eq!(go_on(&mut told, &greedy(), 9), go_on(&mut first, &greedy(), 9));
    }
}

#[test]
fn what_is_no_session_of_this_model_is_refused_and_nothing_is_lost() {
    let (_folder, path) = place();
    let t = tiny("q4_1");
    let model = Arc::new(t.parts().load().unwrap());
    let cache = CacheTypes::default();
    let mut session = Session::new(model.clone(), options(400, cache)).unwrap();
    write(&mut session, &sequence(40, N_VOCAB, 7), &greedy(), 5);
    session.save(&path).unwrap();
    let good = fs::read(&path).unwrap();
    let mut other = Session::new(model.clone(), options(30, cache)).unwrap();
    write(&mut other, &sequence(9, N_VOCAB, 8), &greedy(), 5);
    let refuse = |other: &mut Session, part: &str| {
        let error = other.load(&path).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(other.tokens().len(), 14, "nothing is lost");
    };
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] ^= byte;
        bytes
    };
    let n = good.len();
    for (bytes, part) in [
        (Vec::new(), "is no session file"),
        (b"GGUF".repeat(30), "is no session file"),
        (with(0, 1), "is no session file"),
        (with(8, 2), "version 3; this program reads 1"),
        (with(17, 1), "another model"),
        (with(24, 1), "keys of type q8_0"),
        (with(24, 9), "keys of type ?"),
        (with(33, 1), "its length is wrong"),
        (with(39, 0x80), "its length is wrong"),
        (with(63, 0xff), "its length is wrong"),
        (good[..n - 1].to_vec(), "its length is wrong"),
        ([&good[..], &[0]].concat(), "its length is wrong"),
    ] {
        fs::write(&path, bytes).unwrap();
        refuse(&mut other, part);
    }
    fs::write(&path, &good).unwrap();
    refuse(&mut other, "has 45 tokens and the context holds 30");
    let mut roomy = Session::new(model.clone(), options(100, cache)).unwrap();
    write(&mut roomy, &sequence(9, N_VOCAB, 8), &greedy(), 5);
    for at in (64..n).step_by(n / 97) {
        fs::write(&path, with(at, 0x10)).unwrap();
        refuse(&mut roomy, "its checksum is wrong");
    }
    let foreign = Arc::new(tiny("f32").parts().load().unwrap());
    fs::write(&path, &good).unwrap();
    let mut foreign = Session::new(foreign, options(400, cache)).unwrap();
    assert!(foreign.load(&path).unwrap_err().to_string().contains("another model"));
    roomy.load(&path).unwrap();
    assert_eq!(roomy.tokens(), session.tokens());
}

/// What a session was in the middle of is over.
#[test]
fn an_answer_ends_where_another_sequence_is_loaded() {
    let (_folder, path) = place();
    let model: Arc<Model> = Arc::new(tiny("q4_1").parts().load().unwrap());
    let session = || Session::new(model.clone(), options(400, CacheTypes::default())).unwrap();
    let (mut first, mut other) = (session(), session());
    write(&mut first, &sequence(40, N_VOCAB, 7), &greedy(), 5);
    first.save(&path).unwrap();
    other.prompt(&sequence(9, N_VOCAB, 8), &mut |_, _| true).unwrap();
    other.begin(generation(&warm(1), 50)).unwrap();
    for _ in 0..7 {
        other.next_piece().unwrap();
    }
    other.load(&path).unwrap();
    assert!(other.next_piece().unwrap().is_none(), "nothing was begun, nor half a character left");
    assert_eq!(go_on(&mut other, &warm(2), 20), go_on(&mut first, &warm(2), 20));
}

#[test]
fn threads_that_save_to_one_place_leave_a_whole_file() {
    let (folder, path) = place();
    let model: Arc<Model> = Arc::new(tiny("q4_1").parts().load().unwrap());
    std::thread::scope(|scope| {
        for n in [40, 60, 80] {
            let (model, path) = (model.clone(), &path);
            scope.spawn(move || {
                let mut session = Session::new(model, options(400, CacheTypes::default())).unwrap();
                write(&mut session, &sequence(n, N_VOCAB, 7), &greedy(), 5);
                for _ in 0..20 {
                    session.save(path).unwrap();
                    session.load(path).unwrap();
                }
            });
        }
    });
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_file_is_replaced_whole_or_not_at_all() {
    let (folder, path) = place();
    let model: Arc<Model> = Arc::new(tiny("q4_1").parts().load().unwrap());
    let mut session = Session::new(model, options(400, CacheTypes::default())).unwrap();
    session.save(&path).unwrap();
    write(&mut session, &sequence(40, N_VOCAB, 7), &greedy(), 5);
    session.save(&path).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left over");
    let error = session.save(&folder.path().join("nowhere/a.session")).unwrap_err();
    assert!(error.to_string().contains("nowhere/a.session: no such file"), "{error}");
    session.load(&path).unwrap();
    assert_eq!(session.tokens().len(), 45);
}

/// A session in a file: a conversation.
#[cfg(unix)]
fn conversation() -> Session {
    let model: Arc<Model> = Arc::new(tiny("q4_1").parts().load().unwrap());
    let mut session = Session::new(model, options(400, CacheTypes::default())).unwrap();
    write(&mut session, &sequence(40, N_VOCAB, 7), &greedy(), 5);
    session
}

#[test]
#[cfg(unix)]
fn only_regular_files_are_replaced_or_read() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::os::unix::fs::FileTypeExt;
    let (folder, path) = place();
    let mut session = conversation();
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    for (path, part) in [
        (&*path, "is a pipe, not a regular file"),
        (folder.path(), "is a directory"),
        ("/dev/full".as_ref(), "/dev/full: is a device"),
    ] {
        for error in [session.save(path).unwrap_err(), session.load(path).unwrap_err()] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
    assert!(fs::metadata(&path).unwrap().file_type().is_fifo());
    assert!(fs::metadata("/dev/full").unwrap().file_type().is_char_device());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left over");
}

#[test]
#[cfg(unix)]
fn a_conversation_is_its_owners_alone_unless_the_file_was_others_before() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, path) = place();
    let mut session = conversation();
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    session.save(&path).unwrap();
    assert_eq!(mode(), 0o600);
    for kept in [0o644, 0o600, 0o440] {
        fs::set_permissions(&path, PermissionsExt::from_mode(kept)).unwrap();
        session.save(&path).unwrap();
        assert_eq!(mode(), kept);
    }
}

#[test]
#[cfg(unix)]
fn the_file_behind_a_symbolic_link_is_replaced() {
    let (folder, path) = place();
    let mut session = conversation();
    let real = folder.path().join("real");
    std::os::unix::fs::symlink("real", &path).unwrap();
    for _ in 0..2 {
        session.save(&path).unwrap();
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
        assert!(fs::symlink_metadata(&real).unwrap().is_file());
        session.load(&path).unwrap();
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left over");
}

#[test]
fn what_a_killed_program_left_behind_is_removed() {
    let (folder, path) = place();
    let model: Arc<Model> = Arc::new(tiny("q4_1").parts().load().unwrap());
    let mut session = Session::new(model, options(400, CacheTypes::default())).unwrap();
    fs::write(folder.path().join("a.session.0123456789ABcdef.part"), "half").unwrap();
    session.save(&path).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
