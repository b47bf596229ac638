//! The law: the text depends on model, prompt, seed, sampling and the types of the cache alone.
//!
//! Logits are compared by bits, over made-up models of every kind of weight and over the real one
//! where it is there: tokens fed one by one or together, one to three threads, every instruction
//! set. That the logits are also the right ones is checked against [`common::naive`]. Draft trees
//! have a file of their own, `trees.rs`.

mod common;

use common::alone::Alone;
use common::answers::{self, greedy, warm};
use common::bits::{
    FLOAT, assert_same_bits, cache_types, distance, distance_of, logits, sequence, tiny_models,
};
use common::naive::{Naive, Rounding};
use common::reference::{Reference, references};
use common::tiny::{ALL, Extras, Kind, N_CTX, N_VOCAB, Tiny, tiny};
use common::{fingerprint, load, real_model};
use dovetail::gguf::Value;
use dovetail::infer::{CacheType, CacheTypes, Outputs};
use dovetail::model::block::QkNormPlace;
use dovetail::{Error, Model, Sampling, Session, SessionOptions, Stop};
use dovetail_kernels::cpu::Kernels;
use std::process::Command;
use std::sync::Arc;

const WIDTHS: [usize; 8] = [1, 2, 3, 5, 8, 16, 33, 64];
/// Where a child process is told to write its fingerprints.
const CHILD: &str = "DOVETAIL_LOSSLESS_CHILD";

/// Widths of a pass, threads and a cut-off sequence do not show in a single bit.
fn check_passes(
    model: &Arc<Model>,
    cache: CacheTypes,
    tokens: &[u32],
    threads: &[usize],
    name: &str,
) {
    let (n, n_vocab) = (tokens.len(), model.config().n_vocab);
    let target = |threads, rows| Alone::with_cache(model.clone(), n + 8, threads, rows, cache);
    let expected = logits(&mut target(1, 1), tokens, 1);
    for &threads in threads {
        let mut target = target(threads, n);
        assert_eq!(target.threads(), threads);
        for width in WIDTHS.into_iter().filter(|width| *width < n).chain([n]) {
            target.truncate(0);
            let found = logits(&mut target, tokens, width);
            let about = format!("{name}, {width} at a time, {threads} threads");
            assert_same_bits(&found, &expected, n_vocab, &about);
        }
        // Something else in between must leave no trace.
        for kept in [0, 1, 7, n / 2, n - 1] {
            target.truncate(kept);
            target.append(&tokens[..n - kept], Outputs::None).unwrap();
            target.truncate(kept);
            let found = logits(&mut target, &tokens[kept..], 5);
            let about = format!("{name}, fed again from {kept}, {threads} threads");
            assert_same_bits(&found, &expected[kept * n_vocab..], n_vocab, &about);
        }
        // The last row alone is the last of all rows.
        target.truncate(n - 3);
        target.append(&tokens[n - 3..], Outputs::Last).unwrap();
        let mut row = Vec::new();
        target.logits(0).copy_to(&mut row);
        let found: Vec<u32> = row.iter().map(|x| x.to_bits()).collect();
        assert_same_bits(&found, &expected[(n - 1) * n_vocab..], n_vocab, name);
    }
}

#[test]
fn logits_depend_on_the_tokens_alone() {
    for (tiny, model) in tiny_models() {
        for cache in cache_types() {
            let name = format!("{}, {cache:?}", tiny.name);
            check_passes(&model, cache, &sequence(100, N_VOCAB, 1), &[1, 2, 3], &name);
        }
    }
}

#[test]
fn logits_of_each_architecture_depend_on_the_tokens_alone() {
    for Reference { name, parts, .. } in references() {
        let model = Arc::new(parts.load().unwrap());
        let tokens = sequence(48, N_VOCAB, 1);
        check_passes(&model, CacheTypes::default(), &tokens, &[2, 3], &name);
    }
}

#[test]
fn logits_of_the_real_model_depend_on_the_tokens_alone() {
    let Some(path) = real_model() else { return };
    let model = Arc::new(load(&path).unwrap());
    let tokens = sequence(40, model.config().n_vocab, 2);
    check_passes(&model, CacheTypes::default(), &tokens, &[2, 3], "the real model");
}

/// What every instruction set must agree on: one line a model.
fn fingerprints() -> String {
    use CacheType::{BF16, Q4_0, Q5_1, Q8_0};
    let mut lines = String::new();
    let mut line = |name: &str, model: &Arc<Model>, n: usize, n_predict: usize| {
        let tokens = sequence(n, model.config().n_vocab, 3);
        let mut target = Alone::new(model.clone(), n, 2, n);
        let mut bits = logits(&mut target, &tokens, n);
        target.truncate(n / 2);
        bits.extend(logits(&mut target, &tokens[n / 2..], 3));
        for (keys, values) in [(Q8_0, Q8_0), (Q4_0, Q5_1), (Q5_1, BF16)] {
            let cache = CacheTypes { keys, values };
            let mut target = Alone::with_cache(model.clone(), n, 2, n, cache);
            bits.extend(logits(&mut target, &tokens, n));
        }
        let mut session = session(model, 2, 16);
        let text = write(&mut session, &tokens, &warm(7), n_predict);
        lines += &format!("{name}: {:016x} {text:?}\n", fingerprint(bits));
    };
    tiny_models().for_each(|(tiny, model)| line(tiny.name, &model, 48, 16));
    for Reference { name, parts, .. } in references() {
        line(&name, &Arc::new(parts.load().unwrap()), 32, 4);
    }
    if let Some(path) = real_model() {
        line("the real model", &Arc::new(load(&path).unwrap()), 12, 4);
    }
    lines
}

#[test]
#[ignore = "the body of every_instruction_set_gives_the_same_bits, run in a process of its own"]
fn child() {
    if let Some(path) = std::env::var_os(CHILD) {
        std::fs::write(path, fingerprints()).unwrap();
    }
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    let here: Vec<_> = Kernels::available().map(|k| k.name).collect();
    eprintln!("COMPARED: {}", here.join(", "));
    // The choice is read from the environment, which belongs to the whole process.
    let dir = tempfile::tempdir().unwrap();
    let run = |isa: &str| {
        let path = dir.path().join(isa);
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env("DOVETAIL_ISA", isa)
            .env(CHILD, &path)
            .status()
            .unwrap();
        assert!(status.success(), "{isa}: {status}");
        std::fs::read_to_string(path).unwrap()
    };
    let expected = run(here[0]);
    let n_models = ALL.len() + references().len() + usize::from(real_model().is_some());
    assert_eq!(expected.lines().count(), n_models);
    for isa in &here[1..] {
        for (found, expected) in run(isa).lines().zip(expected.lines()) {
            assert_eq!(found, expected, "{isa} and {}", here[0]);
        }
    }
}

fn session(model: &Arc<Model>, threads: usize, n_ubatch: usize) -> Session {
    Session::new(model.clone(), SessionOptions { threads, n_ubatch, ..SessionOptions::default() })
        .unwrap()
}

/// The answer to a prompt: its tokens and its text.
fn write(s: &mut Session, prompt: &[u32], how: &Sampling, n: usize) -> (Vec<u32>, String) {
    let (tokens, text) = answers::write(s, prompt, how, n);
    (tokens[prompt.len()..].to_vec(), text)
}

/// Text is the same for every way to get it, and only for the same seed.
fn check_texts(model: &Arc<Model>, prompt_len: usize, n: usize, name: &str) {
    let prompt = sequence(prompt_len, model.config().n_vocab, 4);
    for how in [greedy(), warm(1)] {
        let expected = write(&mut session(model, 1, 512), &prompt, &how, n);
        assert_eq!(expected.0.len(), n);
        for (threads, n_ubatch) in [(2, 1), (3, 7), (2, 512)] {
            let found = write(&mut session(model, threads, n_ubatch), &prompt, &how, n);
            assert_eq!(found, expected, "{name}, {threads} threads, passes of {n_ubatch}");
        }

        // One session, prompt after prompt with longer and shorter parts in common.
        let mut used = session(model, 2, 16);
        let mut other = prompt.clone();
        other[prompt_len / 2] ^= 1;
        write(&mut used, &other, &warm(5), n);
        let found = write(&mut used, &prompt, &how, n);
        assert_eq!(used.stats().cached_n, prompt_len / 2, "{name}");
        assert_eq!(found, expected, "{name}, half of the prompt kept");
        let found = write(&mut used, &prompt, &how, n);
        assert_eq!(used.stats().cached_n, prompt_len - 1, "{name}");
        assert_eq!(found, expected, "{name}, the same prompt again");

        let longer = [&prompt[..], &expected.0[..n / 2], &prompt[..3]].concat();
        let fresh = write(&mut session(model, 2, 512), &longer, &how, n);
        let found = write(&mut used, &longer, &how, n);
        assert!(used.stats().cached_n >= prompt_len + n / 2, "{name}");
        assert_eq!(found, fresh, "{name}, the answer is part of the next prompt");

        // Two generations one after the other are one.
        let mut parts = session(model, 2, 512);
        write(&mut parts, &prompt, &how, n / 2);
        assert!(parts.generate(&how, n - n / 2).ignore_end().all(|piece| piece.is_ok()));
        assert_eq!(parts.tokens()[prompt_len..], expected.0, "{name}, in two parts");
    }
    let [one, same, another] =
        [1, 1, 2].map(|seed| write(&mut session(model, 2, 512), &prompt, &warm(seed), n));
    assert_eq!(one, same, "{name}");
    assert_ne!(one, another, "{name}: another seed, another text");
}

#[test]
fn text_depends_on_prompt_and_seed_alone() {
    for (tiny, model) in tiny_models() {
        check_texts(&model, 40, 24, tiny.name);
    }
}

#[test]
fn text_of_the_real_model_depends_on_prompt_and_seed_alone() {
    let Some(path) = real_model() else { return };
    check_texts(&Arc::new(load(&path).unwrap()), 24, 12, "the real model");
}

#[test]
fn an_interrupted_prompt_leaves_no_trace() {
    let (_, model) = tiny_models().next().unwrap();
    let prompt = sequence(60, N_VOCAB, 6);
    let expected = write(&mut session(&model, 2, 512), &prompt, &warm(3), 20);
    let mut s = session(&model, 2, 8);
    assert!(!s.prompt(&prompt, &mut |done, _| done < 24).unwrap());
    assert_eq!(s.tokens(), &prompt[..24]);
    assert!(s.generate(&greedy(), 5).ignore_end().all(|piece| piece.is_ok()));
    let fresh = write(&mut session(&model, 1, 512), &prompt[..24], &greedy(), 5);
    assert_eq!(s.tokens()[24..], fresh.0, "an interrupted prompt can be continued");
    assert_eq!(write(&mut s, &prompt, &warm(3), 20), expected);
}

#[test]
fn an_answer_that_ended_can_be_continued() {
    let (_, model) = tiny_models().next().unwrap();
    let mut ended = 0;
    for seed in 0..20 {
        let how = Sampling { temperature: 2.0, top_k: 0, presence_penalty: 3.0, ..warm(seed) };
        let mut s = session(&model, 2, 512);
        s.prompt(&[5, 6, 7], &mut |_, _| true).unwrap();
        assert!(s.generate(&how, 200).all(|piece| piece.is_ok()));
        if let Some(Stop::End(token)) = s.stop() {
            ended += 1;
            assert!(model.tokenizer().is_end_of_generation(token));
            let so_far = s.tokens().to_vec();
            assert!(s.generate(&how, 10).ignore_end().all(|piece| piece.is_ok()));
            let fresh = write(&mut session(&model, 2, 512), &so_far, &how, 10);
            assert_eq!(s.tokens()[so_far.len()..], fresh.0, "seed {seed}");
        }
    }
    assert!(ended > 3, "only {ended} answers ended");
}

#[test]
fn the_context_ends_where_it_says() {
    let (_, model) = tiny_models().next().unwrap();
    let options =
        SessionOptions { n_ctx: 37, threads: 2, n_ubatch: 8, ..SessionOptions::default() };
    let mut s = Session::new(model.clone(), options).unwrap();
    assert_eq!(s.n_ctx(), 37);
    for len in [37, 38, 500] {
        match s.prompt(&sequence(len, N_VOCAB, 1), &mut |_, _| true) {
            Err(e @ Error::Context { needed, available: 37 }) if needed == len + 1 => {
                let text = format!(
                    "{needed} tokens do not fit the context of 37; \
                     shorten the prompt or raise the context size"
                );
                assert_eq!((e.to_string(), e.is_usage()), (text, true));
            }
            other => panic!("{other:?}"),
        }
    }
    for (len, n_predict, stop) in
        [(30, 100, Stop::Context), (36, 9, Stop::Context), (30, 6, Stop::Length)]
    {
        let prompt = sequence(len, N_VOCAB, 1);
        let (answer, _) = write(&mut s, &prompt, &greedy(), n_predict);
        assert_eq!(answer.len(), n_predict.min(37 - len));
        assert_eq!(s.stop(), Some(stop));
        assert_eq!(s.stats().predicted_n, answer.len());
    }

    let mut target = Alone::new(model, 37, 1, 16);
    target.append(&[1; 16], Outputs::None).unwrap();
    target.append(&[1; 16], Outputs::None).unwrap();
    let full = target.append(&[1; 6], Outputs::Last).unwrap_err();
    assert!(matches!(full, Error::Context { needed: 38, available: 37 }), "{full}");
    assert!(target.append(&[1; 17], Outputs::Last).unwrap_err().is_usage());
    assert_eq!(target.len(), 32);
    target.append(&[1; 5], Outputs::Last).unwrap();
}

#[test]
fn tokens_outside_the_vocabulary_are_named() {
    let (_, model) = tiny_models().next().unwrap();
    let mut s = session(&model, 2, 4);
    for unknown in [N_VOCAB as u32, u32::MAX] {
        let error = s.prompt(&[1, 2, 3, 4, 5, unknown], &mut |_, _| true).unwrap_err();
        assert_eq!(error.to_string(), format!("token {unknown} is not one of {N_VOCAB}"));
        let mut seq = s.target().sequence(CacheTypes::default()).unwrap();
        let error = s.target().append(&mut seq, &[unknown], Outputs::Last).unwrap_err();
        assert!(error.to_string().contains(&unknown.to_string()), "{error}");
    }
    assert!(matches!(s.prompt(&[], &mut |_, _| true), Err(Error::Prompt(_))));
    let found = write(&mut s, &[1, 2, 3], &greedy(), 8);
    assert_eq!(found, write(&mut session(&model, 1, 512), &[1, 2, 3], &greedy(), 8));
    let mut empty = session(&model, 1, 4);
    assert!(matches!(empty.generate(&greedy(), 3).next(), Some(Err(Error::Prompt(_)))));
}

#[test]
fn sizes_that_make_no_sense_are_refused() {
    let (_, model) = tiny_models().next().unwrap();
    for (threads, n_ubatch, line) in [
        (
            0,
            8,
            "the number of threads (0) is out of range; give a number of threads from 1 to 1024",
        ),
        (1025, 8, "the number of threads (1025) is out of range"),
        (1, 0, "the number of tokens of a pass (0) is out of range"),
        (1, 65_537, "the number of tokens of a pass (65537) is out of range"),
    ] {
        let options = SessionOptions { threads, n_ubatch, n_ctx: 37, ..SessionOptions::default() };
        let error = Session::new(model.clone(), options).err().unwrap();
        assert!(error.is_usage() && error.to_string().starts_with(line), "{error}");
    }
}

#[test]
fn a_sampling_that_makes_no_sense_is_refused_and_the_session_goes_on() {
    let (_, model) = tiny_models().next().unwrap();
    let mut s = session(&model, 2, 4);
    s.prompt(&[1, 2, 3], &mut |_, _| true).unwrap();
    let wrong = Sampling { temperature: -1.0, ..greedy() };
    let mut pieces = s.generate(&wrong, 3);
    assert!(matches!(pieces.next(), Some(Err(Error::Setting(_)))));
    assert!(pieces.next().is_none());
    assert_eq!(s.tokens(), [1, 2, 3]);
    let found = write(&mut s, &[1, 2, 3], &greedy(), 8);
    assert_eq!(found, write(&mut session(&model, 1, 512), &[1, 2, 3], &greedy(), 8));
}

/// The same where matrices are quantised. Eight bits of activations err by about
/// `max|x| / 127 / √12`, 0.6 % of a typical one; two or three narrow layers make this of it.
const QUANTISED: f64 = 0.06;
/// Largest distance from the textbook that rounds as the engine does. Not zero: where a number lies
/// between two steps, the last bit of single precision decides, and all that follows hears of it.
const ROUNDED: f64 = 0.02;
/// Distance from the rounding textbook at positions where nothing lay between two steps.
const SAME: f64 = 1e-5;

#[test]
fn logits_are_those_of_the_textbook() {
    for tiny in ALL {
        let parts = tiny.parts();
        let tokens = sequence(100, N_VOCAB, 8);
        let mut target = Alone::new(Arc::new(parts.load().unwrap()), 100, 2, 100);
        let found = logits(&mut target, &tokens, 100);
        let [exact, rounded] = [Rounding::None, Rounding::Engine]
            .map(|rounding| Naive::new(*tiny, &parts, rounding).logits(&tokens));
        let rows = found.chunks(N_VOCAB).zip(&rounded);
        let nearest = rows.map(|(a, b)| distance(a, b)).fold(f64::INFINITY, f64::min);
        assert!(nearest < SAME, "{}: {nearest} from the rounded logits everywhere", tiny.name);
        let [exact, rounded] = [exact, rounded].map(|rows| distance(&found, &rows.concat()));
        println!("{}: {exact:.1e} from the exact logits, {rounded:.1e} from rounded", tiny.name);
        let limit = if tiny.is_float() { FLOAT } else { QUANTISED };
        assert!(exact < limit, "{}: {exact} from the exact logits", tiny.name);
        let limit = if tiny.is_float() { FLOAT } else { ROUNDED };
        assert!(rounded < limit, "{}: {rounded} from the rounded logits", tiny.name);
    }
}

#[test]
fn a_window_is_no_limit_of_the_context() {
    let mut parts = tiny("window").parts();
    let model = parts.load().unwrap();
    assert_eq!(model.config().kinds[0].window, Some(20));
    assert_eq!(model.config().n_ctx, N_CTX as usize);
    parts.set("llama.attention.sliding_window", Some(Value::U32(0)));
    assert_eq!(parts.load().unwrap().config().kinds[0].window, None, "0 is no window");
}

#[test]
fn every_extra_of_the_made_up_architecture_shows() {
    // Else the comparison above would not notice that the engine leaves one out.
    let all = tiny("everything").extras;
    let (others, late) = (tiny("others").extras, tiny("norms after rope").extras);
    let kinds = |change: fn(&mut Kind)| -> &'static [Kind] {
        let mut kinds = all.kinds.to_vec();
        kinds.iter_mut().for_each(change);
        kinds.leak()
    };
    let of_all = [
        ("biases", Extras { biases: false, ..all }),
        ("norms before", Extras { norms: false, ..all }),
        ("norms behind", Extras { post_norms: false, ..all }),
        ("norms of queries and keys", Extras { qk_norms: None, ..all }),
        ("norms of values", Extras { v_norms: false, ..all }),
        ("ε of norms behind", Extras { post_eps: None, ..all }),
        ("the norm of embeddings", Extras { embedding_norm: false, ..all }),
        ("the growth of queries", Extras { query_scale: None, ..all }),
        ("sinks", Extras { sinks: false, ..all }),
        ("the gate", Extras { gate: false, ..all }),
        ("GeGLU", Extras { geglu: false, ..all }),
        ("the scale of scores", Extras { score_scale: None, ..all }),
        ("the cap of scores", Extras { score_cap: None, ..all }),
        ("the scale of embeddings", Extras { embedding_scale: 1.0, ..all }),
        ("the scale of branches", Extras { branch_scale: 1.0, ..all }),
        ("the scale of logits", Extras { logit_scale: 1.0, ..all }),
        ("the cap of logits", Extras { logit_cap: None, ..all }),
        ("windows", Extras { kinds: kinds(|kind| kind.window = None), ..all }),
        (
            "the window's width",
            Extras { kinds: kinds(|k| k.window = k.window.map(|w| w + 1)), ..all },
        ),
        ("partial rotation", Extras { kinds: kinds(|k| k.n_rotated = k.n_rotated.min(4)), ..all }),
        ("the base of rotation", Extras { kinds: kinds(|kind| kind.base *= 2.0), ..all }),
        ("the factor of rotation", Extras { kinds: kinds(|kind| kind.factor = 1.0), ..all }),
        ("kinds of layers", Extras { kinds: &all.kinds[..1], ..all }),
    ];
    let of_others = [
        ("norms of whole rows of queries and keys", Extras { qk_norms: None, ..others }),
        ("LayerNorm", Extras { layer_norms: false, ..others }),
        ("parallel branches", Extras { parallel: false, ..others }),
    ];
    let early = Extras { qk_norms: Some(QkNormPlace::HeadsBeforeRope), ..late };
    let of_late = [("the place of norms", early)];
    for (model, changes) in [
        ("everything", &of_all[..]),
        ("others", &of_others[..]),
        ("norms after rope", &of_late[..]),
    ] {
        let tiny = tiny(model);
        let (parts, tokens) = (tiny.parts(), sequence(60, N_VOCAB, 9));
        let logits = |extras: Extras| {
            Naive::new(Tiny { extras, ..*tiny }, &parts, Rounding::None).logits(&tokens).concat()
        };
        let expected = logits(tiny.extras);
        for (name, extras) in changes {
            // The engine comes nearer than a third of this.
            let distance = distance_of(&logits(*extras), &expected);
            println!("{model} without {name}: {distance:.1e}");
            assert!(distance > 3.0 * FLOAT, "{model} without {name}: {distance}");
        }
    }
}
