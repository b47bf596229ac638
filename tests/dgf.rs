//! The trained drafter: its draft tokens are those of the textbook, a wrong file is refused, the text is that
//! of plain decoding whatever it drafts, and grown with its target it drafts the same.

mod common;

use common::bits::sequence;
use common::drafter::{SHAPES, Shape, errors_of_draft_tokens};
use common::gguf::Parts;
use common::naive::Rounding;
use common::random::Random;
use common::tiny::{N_CTX, N_VOCAB, tiny, types};
use common::{load, open_drafter, real_model};
use dovetail::draft::{
    self, DraftJob, DraftState, Drafter, DrafterContext, Placement, RoundContext, SoloDraft,
    SpecType,
};
use dovetail::gguf::{Array, Value};
use dovetail::speculate::Speculation;
use dovetail::tree::Tree;
use dovetail::{Model, Result, Sampling, Session, SessionOptions};
use dovetail_kernels::cpu::ThreadPool;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

fn open(parts: &Parts, target: &Arc<Model>) -> Result<Box<dyn Drafter>> {
    open_drafter("dgf", parts, target)
}

#[test]
fn draft_tokens_are_those_of_the_textbook() {
    // Weights of eight bits would round the rows too, a little otherwise than the textbook does.
    for shape in SHAPES.map(|shape| Shape { ty: shape.ty.min(types::F16), ..shape }) {
        for target in ["f32", "everything"] {
            let open = |parts: &Parts, target: &Arc<Model>| open(parts, target).unwrap();
            let errors = errors_of_draft_tokens(tiny(target), shape, Rounding::Engine, open);
            assert!(errors.iter().all(|error| *error < 0.002), "{target}, {shape:?}: {errors:?}");
        }
    }
}

#[test]
fn the_text_is_that_of_plain_decoding() {
    for name in ["f32", "q4_1", "q4_K", "yarn"] {
        let t = tiny(name);
        let target = Arc::new(t.parts().load().unwrap());
        for (s, shape) in SHAPES.into_iter().enumerate() {
            let parts = shape.parts(t, &target);
            let sampling = Sampling { temperature: s as f32 / 3.0, seed: 2, ..Sampling::default() };
            let session = || {
                let options =
                    SessionOptions { threads: 2, n_ubatch: 50, ..SessionOptions::default() };
                Session::new(target.clone(), options).unwrap()
            };
            let write = |session: &mut Session, prompt: &[u32]| {
                session.prompt(prompt, &mut |_, _| true).unwrap();
                assert!(session.generate(&sampling, 40).ignore_end().all(|piece| piece.is_ok()));
                session.tokens().to_vec()
            };
            let mut speculative = session();
            let drafter = open(&parts, &target).unwrap();
            let speculation = Speculation::new(drafter, "beam:4,3,9".parse().unwrap());
            speculative.speculate(Some(speculation)).unwrap();
            let long = sequence(140, N_VOCAB, 3);
            for prompt in [&long[..20], &long, &long[..60], &[&long[..60], &[7; 9]].concat()] {
                let expected = write(&mut session(), prompt);
                assert_eq!(write(&mut speculative, prompt), expected, "{name}, {shape:?}");
                assert!(speculative.take_drafter_error().is_none());
                let rounds = speculative.rounds().unwrap();
                assert!(rounds.drafted > rounds.rounds, "{name}, {shape:?}: {rounds:?}");
            }
        }
    }
}

#[test]
fn a_drafter_that_joins_late_drafts_from_there_on() {
    let t = tiny("f32");
    let target = Arc::new(t.parts().load().unwrap());
    let options = SessionOptions { threads: 2, ..SessionOptions::default() };
    let mut session = Session::new(target.clone(), options).unwrap();
    let greedy = Sampling { temperature: 0.0, ..Sampling::default() };
    let prompt = sequence(30, N_VOCAB, 3);
    session.prompt(&prompt, &mut |_, _| true).unwrap();
    session.generate(&greedy, 60).ignore_end().for_each(|piece| drop(piece.unwrap()));
    let expected = session.tokens().to_vec();
    session.prompt(&prompt, &mut |_, _| true).unwrap();
    session.generate(&greedy, 20).ignore_end().for_each(|piece| drop(piece.unwrap()));
    let drafter = open(&SHAPES[0].parts(t, &target), &target).unwrap();
    session.speculate(Some(Speculation::new(drafter, "chain:3".parse().unwrap()))).unwrap();
    session.generate(&greedy, 40).ignore_end().for_each(|piece| drop(piece.unwrap()));
    assert_eq!(session.tokens(), expected);
    assert!(session.take_drafter_error().is_none());
    assert!(session.rounds().unwrap().drafted > 20);
}

#[test]
fn answers_taken_in_parts_and_prompts_cut_short_leave_the_drafter_at_work() {
    let t = tiny("f32");
    let target = Arc::new(t.parts().load().unwrap());
    let options = SessionOptions { threads: 2, n_ubatch: 16, ..SessionOptions::default() };
    let how = Sampling { seed: 3, ..Sampling::default() };
    let prompt = sequence(50, N_VOCAB, 5);
    let run = |session: &mut Session| {
        let mut texts = Vec::new();
        // The prompt is interrupted, in the middle and after its last pass.
        for passes in [2, 4, 9] {
            session.prompt(&prompt[..7], &mut |_, _| true).unwrap();
            session.prompt(&prompt, &mut |done, _| done < 16 * passes - 7).unwrap();
            for n in [4, 20] {
                session
                    .generate(&how, n)
                    .ignore_end()
                    .take(n - 1)
                    .for_each(|piece| drop(piece.unwrap()));
                texts.push(session.tokens().to_vec());
            }
        }
        texts
    };
    let expected = run(&mut Session::new(target.clone(), options.clone()).unwrap());
    for shape in SHAPES {
        let mut session = Session::new(target.clone(), options.clone()).unwrap();
        let drafter = open(&shape.parts(t, &target), &target).unwrap();
        session.speculate(Some(Speculation::new(drafter, "beam:5,2,9".parse().unwrap()))).unwrap();
        assert_eq!(run(&mut session), expected, "{shape:?}");
        assert!(session.take_drafter_error().is_none());
        assert!(session.rounds().unwrap().drafted > 0);
    }
}

#[test]
fn a_drafter_that_was_used_elsewhere_drafts_as_a_new_one() {
    let t = tiny("f32");
    let target = Arc::new(t.parts().load().unwrap());
    let options = SessionOptions { threads: 2, ..SessionOptions::default() };
    let how = Sampling { temperature: 0.0, ..Sampling::default() };
    let new = || Session::new(target.clone(), options.clone()).unwrap();
    let speculation = || {
        let drafter = open(&SHAPES[1].parts(t, &target), &target).unwrap();
        Some(Speculation::new(drafter, "chain:3".parse().unwrap()))
    };
    let answer = |session: &mut Session, prompt: &[u32]| {
        session.prompt(prompt, &mut |_, _| true).unwrap();
        session.generate(&how, 20).ignore_end().for_each(|piece| drop(piece.unwrap()));
    };
    let (one, other) = (sequence(30, N_VOCAB, 1), sequence(45, N_VOCAB, 2));
    let mut fresh = new();
    fresh.speculate(speculation()).unwrap();
    answer(&mut fresh, &other);
    let expected = fresh.rounds().unwrap().depths.clone();
    // It has seen another text, and then the session answered plainly.
    let mut used = new();
    used.speculate(speculation()).unwrap();
    answer(&mut used, &one);
    let idle = used.speculate(None).unwrap();
    answer(&mut used, &other);
    used.speculate(idle).unwrap();
    answer(&mut used, &other);
    assert_eq!(used.rounds().unwrap().depths, expected);
}

#[test]
fn numbers_that_are_none_are_given_up() {
    let t = tiny("f32");
    let target = Arc::new(t.parts().load().unwrap());
    let mut parts = SHAPES[1].parts(t, &target);
    let norm = parts.tensor("output_norm.weight");
    norm.bytes = norm.bytes.chunks(4).flat_map(|_| f32::NAN.to_le_bytes()).collect();
    let options = SessionOptions { threads: 2, ..SessionOptions::default() };
    let mut session = Session::new(target.clone(), options).unwrap();
    let drafter = open(&parts, &target).unwrap();
    session.speculate(Some(Speculation::new(drafter, "chain:3".parse().unwrap()))).unwrap();
    session.prompt(&[1, 2, 3], &mut |_, _| true).unwrap();
    assert!(session.generate(&Sampling::default(), 9).ignore_end().all(|piece| piece.is_ok()));
    let error = session.take_drafter_error().expect("it is said").to_string();
    assert_eq!(error, "its probabilities are no numbers");
}

#[test]
fn wrong_files_are_refused() {
    let t = tiny("f32");
    let target = Arc::new(t.parts().load().unwrap());
    let good = SHAPES[0].parts(t, &target);
    for shape in SHAPES {
        let file = shape.parts(t, &target).write();
        let chosen = draft::choose(SpecType::Auto, Some(file.path()), &target).unwrap();
        assert_eq!(chosen.unwrap().0.name, "dgf");
    }
    let of = |shape: usize, change: &dyn Fn(&mut Parts)| {
        let mut parts = SHAPES[shape].parts(t, &target);
        change(&mut parts);
        open(&parts, &target).err().expect("it is refused").to_string()
    };
    let with = |change: &dyn Fn(&mut Parts)| of(0, change);
    let set_of = |arch: &'static str, key: &'static str, value: Value| {
        move |parts: &mut Parts| parts.set(&format!("{arch}.{key}"), Some(value.clone()))
    };
    let set = |key: &'static str, value: Value| set_of("dovetail-dgf", key, value);
    let set3 = |key: &'static str, value: Value| of(5, &set_of("eagle3", key, value));
    let layers = |layers: &[i32]| Value::Array(Array::I32(layers.to_vec()));
    let without = |shape: usize, name: &str| {
        of(shape, &|parts| parts.tensors.retain(|tensor| tensor.name != name))
    };
    let with_last = |token: u64| {
        of(5, &|parts| {
            let bytes = &mut parts.tensor("d2t").bytes;
            let last = bytes.len() - 8;
            bytes[last..].copy_from_slice(&token.to_le_bytes());
        })
    };
    let text = |text: &str| Value::String(text.to_owned());
    for (message, part) in [
        (with(&set("version", Value::U32(2))), "version 2"),
        (with(&set("target.fingerprint", text("0"))), "another model"),
        (with(&set("embedding_length", Value::U32(32))), "32 wide"),
        (with(&set("fusion", text("sum"))), "known: dgf, fc, eagle"),
        (with(&set("target.vocabulary", Value::U32(7))), "vocabulary is 7, not 273"),
        (with(&set("target.block_count", Value::U32(7))), "block_count is 7, not 2"),
        (with(&set("attention.head_count", Value::U32(0))), "head_count"),
        (with(&set("attention.head_count_kv", Value::U32(3))), "divide"),
        (with(&set("attention.key_length", Value::U32(2000))), "up to 1024"),
        (with(&set("feature_layers", Value::Array(Array::U32(vec![1, 0])))), "do not ascend"),
        (
            with(&set("feature_layers", Value::Array(Array::U32(vec![2])))),
            "layer 2 of a target with 2",
        ),
        (with(&set("block_count", Value::U32(2))), "blk.1."),
        (with(&set("block_count", Value::U32(0))), "block_count"),
        (
            with(&|parts| parts.set("general.architecture", Some(Value::String("llama".into())))),
            "`llama`",
        ),
        (with(&|parts| drop(parts.tensors.remove(0))), "attn_norm"),
        (with(&|parts| parts.tensor("draft_tokens").bytes[..8].fill(9)), "does not ascend"),
        (
            with(&|parts| {
                let bytes = &mut parts.tensor("draft_tokens").bytes;
                let last = bytes.len() - 4;
                bytes[last..].copy_from_slice(&[255, 255, 0, 0]);
            }),
            "65535",
        ),
        (with(&|parts| parts.tensor("draft_tokens").type_id = 0), "I32"),
        (without(4, "fuse.bias"), "fuse.bias"),
        (of(4, &set("fusion", text("fc"))), "fuse_feature_norm"),
        (of(2, &set("fusion", text("eagle"))), "fuse.bias"),
        (set3("target_hidden_size", Value::U32(32)), "32 wide"),
        (set3("vocab_size", Value::U32(7)), "vocab_size is 7, not 273"),
        (set3("target.fingerprint", text("0")), "another model"),
        (set3("target.block_count", Value::U32(7)), "block_count is 7, not 2"),
        (set3("extract_layers", layers(&[])), "taps no layer"),
        (set3("extract_layers", layers(&[0, 2])), "layer 2 of a target with 2"),
        (set3("extract_layers", layers(&[1])), "fc.weight"),
        (of(5, &|parts| parts.tensor("d2t").bytes.fill(0)), "does not ascend"),
        (with_last(300), "draft token 300 of a target with 273"),
        (with_last(1 << 40), "I64 of 32 bits"),
        (without(5, "blk.0.attn_norm_2.weight"), "attn_norm_2"),
        (without(6, "output.weight"), "`output.weight` is missing"),
        (without(6, "token_embd.weight"), "`token_embd.weight` is missing"),
        (of(6, &|parts| parts.tensor("token_embd.weight").shape.swap(0, 1)), "token_embd.weight"),
    ] {
        assert!(message.contains(part) && !message.contains('\n'), "{message}");
    }
    let setup = DrafterContext {
        target: &target,
        n_ctx: 9,
        threads: 1,
        path: None,
        placement: Placement::CPU,
    };
    let error = (draft::kind("dgf").unwrap().open)(&setup).err().expect("no file").to_string();
    assert!(error.contains("name it with the option for the file of the drafter"), "{error}");
    let other = Arc::new(tiny("f16").parts().load().unwrap());
    assert!(
        open(&good, &other).err().expect("another target").to_string().contains("another model")
    );
}

/// The bytes that a text in base64 stands for.
fn from_base64(text: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let four = |quad: &[u8]| {
        let word = quad.iter().fold(0u32, |word, c| word << 6 | u32::from(digit(*c)));
        word.to_be_bytes()[1..].to_vec()
    };
    let bytes: Vec<u8> =
        text.trim_end_matches('=').as_bytes().chunks_exact(4).flat_map(four).collect();
    assert_eq!(text.len() / 4 * 3, bytes.len(), "whole words of three bytes");
    bytes
}

/// The shipped drafters, fed with the features that PyTorch had, say what it says. Weights of eight bits
/// and activations rounded to as many leave small differences; the normalisation differs, as tokens of the
/// text join the vocabulary here.
#[test]
fn the_shipped_drafters_draft_as_pytorch_does() {
    let Some(model) = real_model() else { return };
    let target = Arc::new(load(&model).unwrap());
    for name in ["small", "deep"] {
        let text =
            std::fs::read_to_string(format!("tests/data/drafter_{name}.parity.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let integers = |value: &serde_json::Value| -> Vec<u32> {
            value.as_array().unwrap().iter().map(|token| token.as_u64().unwrap() as u32).collect()
        };
        let tokens = integers(&json["tokens"]);
        let (before, last) = (&tokens[..tokens.len() - 1], tokens.len() - 1);
        let bytes = from_base64(json["features_base64"].as_str().unwrap());
        let features: Vec<f32> =
            bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let width = features.len() / last;
        let path = format!("models/SmolLM2-135M-Instruct.{name}.dgf.gguf");
        let path = Some(Path::new(&path));
        let setup = DrafterContext {
            target: &target,
            n_ctx: 64,
            threads: 2,
            path,
            placement: Placement::CPU,
        };
        let mut drafter = (draft::kind("dgf").unwrap().open)(&setup).unwrap();
        let pool = &mut ThreadPool::new(2);
        let mut solo = SoloDraft::new(&mut *drafter).unwrap();
        let mut grow = |shape: &str| {
            let shape = shape.parse().unwrap();
            solo.commit(&mut *drafter, 0, before, features.chunks_exact(width), pool).unwrap();
            *solo.expand(&mut *drafter, &tokens, shape, pool).unwrap()
        };
        // The first step: as much likelier or less than the likeliest.
        let first = &json["steps"][0];
        let tree = grow("beam:1,40,41");
        let probabilities = first["log_probabilities"].as_array().unwrap();
        let expected: Vec<f64> = probabilities.iter().map(|p| p.as_f64().unwrap()).collect();
        let likeliest = integers(&first["tokens"]);
        assert_eq!(tree.tokens()[1], likeliest[0], "{name}");
        for (token, expected_log) in likeliest.iter().zip(&expected) {
            let node = tree.child(0, *token).expect("one of the likeliest");
            let found = f64::from(tree.log_probs()[node] - tree.log_probs()[1]);
            let error = (found - (expected_log - expected[0])).abs();
            assert!(error < 0.15, "{name}, token {token}: off by {error}");
        }
        // Each step after the likeliest token of the one before.
        let steps = json["steps"].as_array().unwrap();
        let chain: Vec<u32> = steps.iter().map(|step| integers(&step["tokens"])[0]).collect();
        assert_eq!(grow("chain:3").tokens()[1..], chain, "{name}");
    }
}

/// Whatever the bytes of a drafter's file are, it is refused or it drafts.
#[test]
fn damaged_files_cause_no_panic() {
    let t = tiny("f32");
    let target = Arc::new(t.parts().load().unwrap());
    let mut random = Random(11);
    let (mut refused, mut opened) = (0, 0);
    for (nth, shape) in SHAPES.into_iter().cycle().take(150).enumerate() {
        let file = shape.parts(t, &target).write();
        let mut bytes = std::fs::read(file.path()).unwrap();
        // Keys and shapes are at the beginning.
        let head = bytes.len().min(2500);
        for _ in 0..1 + nth % 3 {
            bytes[random.below(head)] = random.bits() as u8;
        }
        if nth % 10 == 0 {
            bytes.truncate(random.below(head) + head / 2);
        }
        std::fs::write(file.path(), &bytes).unwrap();
        let setup = DrafterContext {
            target: &target,
            n_ctx: 64,
            threads: 1,
            path: Some(file.path()),
            placement: Placement::CPU,
        };
        let Ok(mut drafter) = (draft::kind("dgf").unwrap().open)(&setup) else {
            refused += 1;
            continue;
        };
        opened += 1;
        let tokens = sequence(9, N_VOCAB, 2);
        let row = random.floats(t.n_embd * drafter.taps().len());
        let (drafter, pool) = (&mut *drafter, &mut ThreadPool::new(1));
        let Ok(mut solo) = SoloDraft::new(drafter) else { continue };
        let told = solo.commit(drafter, 0, &tokens[..8], std::iter::repeat_n(&row[..], 8), pool);
        let shape = "beam:3,2,6".parse().unwrap();
        let _ = told.and_then(|()| solo.expand(drafter, &tokens, shape, pool).map(drop));
    }
    assert!(refused > 20 && opened > 20, "{refused} refused, {opened} opened");
}

/// Runs scripts/inflate and returns what it says if it fails. `None`, said aloud, where Python or the
/// package it installs is missing.
fn inflate(arguments: &[&str]) -> Option<std::result::Result<(), String>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/inflate");
    let output = match Command::new("python3").arg(script).args(arguments).output() {
        Ok(output) => output,
        Err(error) => {
            eprintln!("SKIPPED: python3 cannot be run: {error}");
            return None;
        }
    };
    let said = String::from_utf8(output.stderr).unwrap();
    if ["cannot be installed", "cannot make"].iter().any(|missing| said.contains(missing)) {
        eprintln!("SKIPPED: {said}");
        return None;
    }
    Some(if output.status.success() { Ok(()) } else { Err(said) })
}

/// A drafter, and what it is told and drafts.
struct Witness {
    drafter: Box<dyn Drafter>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    hidden: Vec<Vec<f32>>, // a row for each position, (taps, H)
    trees: Vec<Tree>,
}

impl Drafter for Witness {
    fn taps(&self) -> &[usize] {
        self.drafter.taps()
    }

    fn state(&mut self) -> Result<DraftState> {
        self.drafter.state()
    }

    fn commit(
        &mut self,
        state: &mut DraftState,
        first: usize,
        tokens: &[u32],
        features: &mut dyn Iterator<Item = &[f32]>,
        pool: &mut ThreadPool,
    ) -> Result<()> {
        let rows: Vec<&[f32]> = features.collect();
        self.seen.lock().unwrap().hidden.extend(rows.iter().map(|row| row.to_vec()));
        self.drafter.commit(state, first, tokens, &mut rows.into_iter(), pool)
    }

    fn expand(&mut self, jobs: &mut [DraftJob], round: &mut RoundContext) {
        self.drafter.expand(jobs, round);
        self.seen.lock().unwrap().trees.extend(jobs.iter().map(|job| *job.tree.tree()));
    }
}

/// The likeliest text of a target, and what its drafter is told and drafts meanwhile.
fn watched(target: &Path, drafter: &Path) -> (Vec<u32>, Seen) {
    let target = Arc::new(load(target).unwrap());
    let setup = DrafterContext {
        target: &target,
        n_ctx: N_CTX as usize,
        threads: 2,
        path: Some(drafter),
        placement: Placement::CPU,
    };
    let seen = Arc::new(Mutex::default());
    let drafter = (draft::kind("dgf").unwrap().open)(&setup).unwrap();
    let witness = Box::new(Witness { drafter, seen: Arc::clone(&seen) });
    let options = SessionOptions { threads: 2, ..SessionOptions::default() };
    let mut session = Session::new(target.clone(), options).unwrap();
    session.speculate(Some(Speculation::new(witness, "beam:4,3,9".parse().unwrap()))).unwrap();
    session.prompt(&sequence(40, N_VOCAB, 3), &mut |_, _| true).unwrap();
    let greedy = Sampling { temperature: 0.0, ..Sampling::default() };
    session.generate(&greedy, 40).ignore_end().for_each(|piece| drop(piece.unwrap()));
    assert!(session.take_drafter_error().is_none());
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    (session.tokens().to_vec(), seen)
}

/// The paths of a tree, each as its tokens, with their logarithmic probabilities.
fn draft_paths(tree: &Tree) -> Vec<(Vec<u32>, f32)> {
    let tokens = |node: usize| -> Vec<u32> {
        let path = (0..=node).filter(|above| tree.masks()[node] >> above & 1 == 1);
        path.map(|node| tree.tokens()[node]).collect()
    };
    let mut all: Vec<_> =
        (0..tree.len()).map(|node| (tokens(node), tree.log_probs()[node])).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

#[test]
fn grown_with_its_target_it_drafts_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let [small, own, big, grown] = ["small", "own", "big", "grown"].map(at);
    let t = tiny("f32");
    let parts = t.parts();
    std::fs::write(&small, parts.bytes()).unwrap();
    let target = Arc::new(parts.load().unwrap());
    let drafter = ["--drafter", &own, &grown];
    let shapes = SHAPES.into_iter().filter(|shape| !shape.fusion.starts_with("eagle"));
    for (i, shape) in shapes.enumerate() {
        std::fs::write(&own, shape.parts(t, &target).bytes()).unwrap();
        // Heads move; where weights have eight bits, heads are no whole blocks, and rounding must not
        // differ either.
        let (width, kv_heads) = if shape.ty == types::Q8_0 { ("256", "16") } else { ("192", "4") };
        let sizes = ["--width", width, "--ffn", "160", "--layers", "3", "--kv-heads", kv_heads];
        // The second drafter is for a target that is there already.
        let sizes = if i == 1 { &sizes[..0] } else { &sizes[..] };
        // Blocks that contribute nothing, where matrices are floats and where they are codes.
        let blocks = if i == 0 || i == 3 { &["--drafter-blocks", "4"][..] } else { &[] };
        match inflate(&[&[&*small, &*big], &drafter[..], sizes, blocks].concat()) {
            Some(done) => done.unwrap(),
            None => return,
        }
        inflate(&[&[&*small, &*big, "--check"], &drafter[..], blocks].concat()).unwrap().unwrap();
        let width: usize = width.parse().unwrap();
        let (text, one) = watched(small.as_ref(), own.as_ref());
        let (grown_text, other) = watched(big.as_ref(), grown.as_ref());
        assert_eq!(grown_text, text, "{shape:?}");
        assert!(one.trees.len() > 10 && one.hidden.len() >= text.len() - 1);
        assert_eq!(other.hidden.len(), one.hidden.len());
        for (row, grown_row) in one.hidden.iter().zip(&other.hidden) {
            for (x, wide) in row.chunks(t.n_embd).zip(grown_row.chunks(width)) {
                assert!(x.iter().zip(wide).all(|(a, b)| (a - b).abs() < 0.01), "{shape:?}");
                assert!(wide[t.n_embd..].iter().all(|x| *x == 0.0), "{shape:?}");
            }
        }
        assert_eq!(other.trees.len(), one.trees.len());
        for (tree, grown_tree) in one.trees.iter().zip(&other.trees) {
            // In any order: nearly equal draft tokens may change places.
            let (found, expected) = (draft_paths(grown_tree), draft_paths(tree));
            let paths = |all: &[(Vec<u32>, f32)]| -> Vec<Vec<u32>> {
                all.iter().map(|(path, _)| path.clone()).collect()
            };
            assert_eq!(paths(&found), paths(&expected), "{shape:?}");
            let mut pairs = found.iter().zip(&expected);
            assert!(pairs.all(|(a, b)| (a.1 - b.1).abs() < 0.01), "{shape:?}");
        }
    }
    // Another target's drafter, and a big target of another small one.
    let other = at("other");
    std::fs::write(&other, tiny("linear").parts().bytes()).unwrap();
    let fails = |arguments: &[&str]| {
        let said = inflate(&[arguments, &drafter[..]].concat()).unwrap().unwrap_err();
        assert!(said.starts_with("error: ") && said.lines().count() == 1, "{said}");
        said
    };
    let sizes = ["--width", "128", "--ffn", "160", "--layers", "2"];
    let said = fails(&[&[&*other, &*at("none")], &sizes[..]].concat());
    assert!(said.contains("was trained for another model"), "{said}");
    assert!(!Path::new(&at("none")).exists());
    let said = fails(&[&*other, &*big]);
    assert!(said.contains("grown; make it anew"), "{said}");
    let said = fails(&[&*small, &*big, "--drafter-blocks", "2"]);
    assert!(said.contains("is less than the 3"), "{said}");
    std::fs::write(&own, SHAPES[4].parts(t, &target).bytes()).unwrap();
    let said = fails(&[&[&*small, &*at("none")], &sizes[..]].concat());
    assert!(said.contains("fuses by eagle"), "{said}");
}
