//! The memory that a drafter is said to take before it is opened is what it then takes.
//!
//! The allocator counts for all threads, so tests wait for each other.

mod common;

use common::bits::sequence;
use common::drafter::SHAPES;
use common::gguf::Parts;
use common::tiny::{N_VOCAB, Tiny, tiny};
use dovetail::draft::{self, DrafterContext, DrafterMemory, Placement, SoloDraft};
use dovetail::gguf::{Array, Value};
use dovetail_kernels::cpu::ThreadPool;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// Counts the bytes that are taken and were not given back.
struct Counting;

static TAKEN: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands everything on to the system's allocator unchanged; the default `realloc` calls the other two.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        TAKEN.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        TAKEN.fetch_add(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        TAKEN.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Held by the test that runs.
static TURN: Mutex<()> = Mutex::new(());

/// The same model with so many tokens more.
fn with_tokens(mut parts: Parts, more: usize) -> Parts {
    let mut add = |name: &str, with: &dyn Fn(&mut Array)| {
        let found = parts.keys.iter_mut().find(|(key, _)| key == name).expect(name);
        let Value::Array(array) = &mut found.1 else { panic!("{name} is a list") };
        with(array);
    };
    add("tokenizer.ggml.tokens", &|array| {
        let Array::String(tokens) = array else { panic!("texts") };
        tokens.extend((0..more).map(|i| format!("more{i}")));
    });
    add("tokenizer.ggml.token_type", &|array| {
        let Array::I32(kinds) = array else { panic!("numbers") };
        kinds.extend(vec![1; more]);
    });
    for tensor in parts.tensors.iter_mut() {
        if ["token_embd.weight", "output.weight"].contains(&&*tensor.name) {
            let row_bytes = tensor.bytes.len() / N_VOCAB;
            tensor.shape[1] += more as u64;
            tensor.bytes.resize(tensor.bytes.len() + more * row_bytes, 0);
        }
    }
    parts
}

/// The estimate is within a quarter of what is allocated, whether buffers, logits or caches are the largest part of it.
/// Weights are not allocated: they are mapped, or packed beside the allocator.
#[test]
fn a_small_model_takes_what_it_is_said_to_take() {
    let _turn = TURN.lock();
    let parts = Tiny { n_ff: 1024, ..*tiny("q4_K") }.parts();
    for (more, n_ctx, sequences) in [(0, 64, 1), (30_000, 64, 3), (0, 20_000, 3)] {
        let parts = with_tokens(parts.clone(), more);
        let (file, model) = (parts.write(), Arc::new(parts.load().unwrap()));
        let (path, placement) = (Some(file.path()), Placement::CPU);
        let setup = DrafterContext { target: &model, n_ctx, threads: 1, path, placement };
        let open = || (draft::kind("lm").unwrap().open)(&setup).unwrap();
        let mut pool = ThreadPool::new(1);
        let tokens = sequence(40, N_VOCAB, 1);
        // Another one holds the weights and the vocabulary, which drafters of a file share.
        let _first = open();
        let before = TAKEN.load(Relaxed);
        let mut drafter = open();
        let mut states: Vec<SoloDraft> =
            (0..sequences).map(|_| SoloDraft::new(&mut *drafter).unwrap()).collect();
        let shape = "beam:2,60,62".parse().unwrap();
        let tree = states[0].expand(&mut *drafter, &tokens, shape, &mut pool).unwrap();
        assert_eq!(tree.len(), 62, "a level of sixty rows has logits");
        let taken = (TAKEN.load(Relaxed) - before) as f64;
        let weights: usize = parts.tensors.iter().map(|tensor| tensor.bytes.len()).sum();
        let said = DrafterMemory::of(file.path(), 0).unwrap().bytes(n_ctx, sequences);
        let said = (said - weights as u64) as f64;
        let about = format!("{said} bytes are said, {taken} are taken: {more} {n_ctx} {sequences}");
        assert!((0.75..1.25).contains(&(said / taken)), "{about}");
    }
}

/// As above. Its logits are those of one sequence; for more, the trees of all grow side by side.
#[test]
fn a_trained_drafter_takes_what_it_is_said_to_take() {
    let _turn = TURN.lock();
    let t = tiny("f32");
    let target = Arc::new(t.parts().load().unwrap());
    let file = SHAPES[0].parts(t, &target).write();
    let memory = |n_vocab| DrafterMemory::of(file.path(), n_vocab).unwrap();
    for (n_ctx, sequences) in [(64, 1), (20_000, 3)] {
        let (path, placement) = (Some(file.path()), Placement::CPU);
        let setup = DrafterContext { target: &target, n_ctx, threads: 1, path, placement };
        let mut pool = ThreadPool::new(1);
        let features = vec![0.5; t.n_embd * SHAPES[0].taps.len().max(1)];
        let tokens = sequence(40, N_VOCAB, 1);
        let before = TAKEN.load(Relaxed);
        let mut drafter = (draft::kind("dgf").unwrap().open)(&setup).unwrap();
        let mut states: Vec<SoloDraft> =
            (0..sequences).map(|_| SoloDraft::new(&mut *drafter).unwrap()).collect();
        let rows = &mut std::iter::repeat_n(&features[..], 39);
        states[0].commit(&mut *drafter, 0, &tokens[..39], rows, &mut pool).unwrap();
        let shape = "beam:2,60,62".parse().unwrap();
        let tree = states[0].expand(&mut *drafter, &tokens, shape, &mut pool).unwrap();
        assert!(tree.len() > 1, "a level has logits");
        let taken = (TAKEN.load(Relaxed) - before) as f64;
        let said = memory(N_VOCAB).bytes(n_ctx, sequences) as f64;
        let about = format!("{said} bytes are said, {taken} are taken: {n_ctx} {sequences}");
        assert!((0.75..1.25).contains(&(said / taken)), "{about}");
    }
    for (sequences, rows) in [(1, 64), (2, 128), (3, 128)] {
        let logits = memory(100_000).bytes(64, sequences) - memory(0).bytes(64, sequences);
        assert_eq!(logits, 4 * 100_000 * rows);
    }
}

/// What a damaged header says is refused or is too large a number, and never wraps around.
#[test]
fn a_damaged_header_is_counted_or_refused() {
    let _turn = TURN.lock();
    let parts = tiny("f32").parts();
    let weights: usize = parts.tensors.iter().map(|tensor| tensor.bytes.len()).sum();
    let bytes = |keys: &[(&str, u32)]| {
        let mut parts = parts.clone();
        for (name, n) in keys {
            parts.set(&format!("llama.{name}"), Some(Value::U32(*n)));
        }
        let memory = DrafterMemory::of(parts.write().path(), 0)?;
        Ok::<u64, dovetail::Error>(memory.bytes(u32::MAX as usize, 16))
    };
    let plain = bytes(&[]).unwrap();
    assert!(plain > weights as u64);
    let tensors = parts.tensors.len() as u32;
    let heads = [("attention.head_count", 4096), ("attention.head_count_kv", 4096)];
    let widths = [("attention.key_length", 1024), ("attention.value_length", 1024)];
    let huge = [&heads[..], &widths, &[("block_count", tensors)]].concat();
    assert_eq!(bytes(&huge).unwrap(), u64::MAX);
    assert!(bytes(&[("feed_forward_length", u32::MAX)]).unwrap() > plain + (1 << 40));
    for keys in [
        &[("attention.head_count", u32::MAX), ("attention.head_count_kv", u32::MAX)][..],
        &[("block_count", u32::MAX)],
        &[("embedding_length", u32::MAX)],
        &[("attention.key_length", u32::MAX)],
        &[("attention.head_count_kv", 0)],
        &[("feed_forward_length", 0)],
    ] {
        let error = bytes(keys).expect_err(&format!("{keys:?}")).to_string();
        assert!(!error.contains('\n') && error.len() < 300, "{error}");
    }
}
