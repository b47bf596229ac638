//! Between the first and the last token nothing is allocated but the text that is handed out.
//!
//! A token of text is a `String` that the caller owns: at most one allocation a token, none where
//! it is empty. Everything else (the pass over the weights, sampling, the history) lives in memory
//! that was taken before: by the constructor, the prompt, and the first token.
//!
//! A program of its own (`harness = false`): the allocator counts for all threads, and the test
//! harness has one that allocates when it likes.

mod common;

use common::alone::Alone;
use common::place::Folder;
use common::tiny::{ALL, types::FOREIGN};
use dovetail::draft::{self, DraftJob, Drafter, RoundContext};
use dovetail::infer::{CacheType, CacheTypes, Outputs, Work};
use dovetail::model::Repack;
use dovetail::speculate::Speculation;
use dovetail::tree::Tree;
use dovetail::{Drafting, Engine, Request, Result, Sampling, Session, SessionOptions};
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// Counts every request for memory, of all threads.
struct Counting;

static REQUESTS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands everything on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        REQUESTS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        REQUESTS.fetch_add(1, Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Requests for memory while `work` runs: the fewest of some times, of which one is enough where there are
/// none. A thread that the system starts or ends late takes memory of its own meanwhile; it is given time.
fn requests(mut work: impl FnMut()) -> usize {
    let mut fewest = usize::MAX;
    for patience in [0, 1, 10, 100, 500] {
        std::thread::sleep(Duration::from_millis(patience));
        let before = REQUESTS.load(Relaxed);
        work();
        fewest = fewest.min(REQUESTS.load(Relaxed) - before);
        if fewest == 0 {
            break;
        }
    }
    fewest
}

fn main() {
    // What cargo-nextest asks a test binary for: its list of tests, ours being this program.
    if std::env::args().any(|arg| arg == "--list") {
        if !std::env::args().any(|arg| arg == "--ignored") {
            println!("nothing_is_allocated_but_the_text: test");
        }
        return;
    }
    assert_eq!(requests(|| drop(std::hint::black_box(Box::new(1u8)))), 1, "the counter counts");
    for tiny in ALL {
        if tiny.layers == [FOREIGN] {
            // Its embedding lies in the file at odd addresses, from which ggml does not read: one copy
            // for half of the tokens.
            println!("SKIPPED: {}: rows of the embedding are copied for ggml", tiny.name);
            continue;
        }
        let folder = Folder::new(&tiny.parts());
        let native = Alone::new(folder.load(Repack::Off).into(), 256, 2, 32);
        a_pass_allocates_nothing(tiny.name, native);
        let model = Arc::new(folder.load(Repack::Memory));
        for cache in CacheType::ALL.map(|ty| CacheTypes { keys: ty, values: ty }) {
            let target = Alone::with_cache(model.clone(), 256, 2, 32, cache);
            a_pass_allocates_nothing(tiny.name, target);
        }
        let cache = CacheTypes::default();
        for temperature in [0.0, 0.8] {
            let sampling = Sampling { temperature, repeat_penalty: 1.1, ..Sampling::default() };
            let options = SessionOptions { n_ctx: 256, threads: 2, n_ubatch: 32, cache };
            let session = Session::new(model.clone(), options).unwrap();
            an_answer_allocates_its_text_alone(tiny.name, session, &sampling);
        }
        let options = SessionOptions { n_ctx: 256, threads: 2, n_ubatch: 32, cache };
        an_engine_allocates_its_texts_alone(tiny.name, Engine::new(model, options, 3).unwrap());
        println!("{}: no memory but the text's", tiny.name);
    }
    let Some(path) = common::real_model() else { return };
    let model = Arc::new(common::load(&path).unwrap());
    for temperature in [0.0, 0.8] {
        let options = SessionOptions { n_ctx: 512, threads: 2, ..SessionOptions::default() };
        let mut session = Session::new(model.clone(), options).unwrap();
        let drafter = Path::new("models/SmolLM2-135M-Instruct.small.dgf.gguf");
        let drafter = (draft::kind("dgf").unwrap().open)(&session.setup(Some(drafter))).unwrap();
        let growth = "beam:5,3,12".parse().unwrap();
        session.speculate(Some(Speculation::new(drafter, growth))).unwrap();
        let sampling = Sampling { temperature, ..Sampling::default() };
        an_answer_allocates_its_text_alone("drafted", session, &sampling);
    }
}

/// Drafts the last token again and again.
struct Again;

impl Drafter for Again {
    fn expand_one(&mut self, job: &mut DraftJob, _: &mut RoundContext) -> Result<()> {
        for node in 0..job.tree.shape().depth {
            job.tree.tree_mut().push(node, job.tokens[job.tokens.len() - 1], -0.1);
        }
        Ok(())
    }
}

/// After the prompts and a round no request but one a text.
fn an_engine_allocates_its_texts_alone(name: &str, mut engine: Engine) {
    let mut fewest = usize::MAX;
    let speculation = Speculation::new(Box::new(Again), "chain:4".parse().unwrap());
    engine.add_drafter(speculation).unwrap();
    for _ in 0..3 {
        let slots = [3, 9, 40].map(|n| {
            let mut request = Request::new(vec![5; n], 100);
            request.generation.ignore_end = true;
            request.generation.drafting = if n > 3 { Drafting::Auto } else { Drafting::Off };
            engine.add(request).unwrap()
        });
        for _ in 0..2 {
            engine.step(&mut |_, _| {}).unwrap();
        }
        let mut texts = 0;
        let before = REQUESTS.load(Relaxed);
        while engine.step(&mut |_, piece| texts += usize::from(!piece.text.is_empty())).unwrap() {}
        fewest = fewest.min((REQUESTS.load(Relaxed) - before).saturating_sub(texts));
        for slot in slots {
            assert_eq!(engine.remove(slot).unwrap().tokens.len(), 100);
        }
    }
    assert_eq!(fewest, 0, "{name}: requests of an engine that are no text");
}

/// One warm pass of each width, then none may ask for memory.
fn a_pass_allocates_nothing(name: &str, mut target: Alone) {
    let mut logits = Vec::with_capacity(target.model().config().n_vocab);
    for (width, outputs) in [(1, Outputs::Last), (1, Outputs::None), (32, Outputs::All)] {
        target.truncate(0);
        target.append(&[7; 32][..width], outputs).unwrap();
        let requests = requests(|| {
            target.truncate(1);
            for token in 0..6 {
                target.append(&[token; 32][..width], outputs).unwrap();
                if outputs != Outputs::None {
                    target.logits(0).copy_to(&mut logits);
                }
            }
        });
        assert_eq!(requests, 0, "{name}: 6 passes of {width} tokens, {outputs:?}");
    }
    let mut tree = Tree::new(3);
    for node in 1..32 {
        tree.push((node - 1) / 2, node as u32, 0.0);
    }
    let none = requests(|| {
        target.truncate(1);
        for _ in 0..6 {
            target.verify(&tree).unwrap();
            target.logits(31).copy_to(&mut logits);
            target.keep(&[0, 1, 4]).unwrap();
        }
    });
    assert_eq!(none, 0, "{name}: 6 trees of 32 nodes");
    let [mut left, mut right] =
        std::array::from_fn(|_| target.sequence(CacheTypes::default()).unwrap());
    tree.prune(16, f32::NEG_INFINITY);
    let none = requests(|| {
        left.truncate(0);
        right.truncate(1);
        for _ in 0..6 {
            target.verify_batch(&mut [(&mut left, &tree, 0), (&mut right, &tree, 0)]).unwrap();
            target.target.keep(&mut left, &[0]).unwrap();
            target.target.keep(&mut right, &[0, 2]).unwrap();
        }
    });
    assert_eq!(none, 0, "{name}: 6 trees of two sequences");
    let none = requests(|| {
        left.truncate(0);
        right.truncate(1);
        for _ in 0..6 {
            let run = Work::Run { tokens: &[7; 16], outputs: Outputs::Last };
            let batch = &mut [(&mut left, run), (&mut right, Work::Tree(&tree))];
            let rows = target.run(batch).unwrap();
            target.logits(rows[1].outputs.start).copy_to(&mut logits);
            target.target.keep(&mut right, &[0, 2]).unwrap();
        }
    });
    assert_eq!(none, 0, "{name}: 6 chunks of a prompt, each beside a tree");
}

/// After the second token no request but one a text: `String`s that are not empty.
fn an_answer_allocates_its_text_alone(name: &str, mut session: Session, sampling: &Sampling) {
    let mut fewest = usize::MAX;
    for _ in 0..3 {
        session.prompt(&[1, 2, 3, 4, 5], &mut |_, _| true).unwrap();
        let mut pieces = session.generate(sampling, 200).ignore_end();
        // The second is the first of a round: a drafter takes note of the prompt then.
        for _ in 0..2 {
            pieces.next().unwrap().unwrap();
        }
        let (mut texts, mut tokens) = (0, 2);
        let before = REQUESTS.load(Relaxed);
        for piece in &mut pieces {
            texts += usize::from(!piece.unwrap().text.is_empty());
            tokens += 1;
        }
        fewest = fewest.min((REQUESTS.load(Relaxed) - before).saturating_sub(texts));
        assert!(tokens >= 200, "{name}: {tokens} tokens");
    }
    let temperature = sampling.temperature;
    assert_eq!(fewest, 0, "{name}, temperature {temperature}: requests that are no text");
}
