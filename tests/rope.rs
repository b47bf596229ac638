//! Positions are stretched by options as by a file's keys, and a context beyond the trained one needs that.

mod common;

use common::answers::{greedy, write};
use common::bits::sequence;
use common::gguf::Parts;
use common::load_with;
use common::reference::references;
use common::tiny::{N_CTX, N_VOCAB, tiny};
use dovetail::gguf::Value;
use dovetail::model::{RopeOptions, RopeScaling};
use dovetail::speculate::SpecOptions;
use dovetail::{Error, LoadOptions, Model, Options, Result, Session, SessionOptions};
use std::sync::Arc;

fn load(parts: &Parts, rope: RopeOptions) -> Result<Model> {
    load_with(parts.write().path(), LoadOptions { rope, ..LoadOptions::default() })
}

#[test]
fn options_do_what_keys_do() {
    let whole = references().into_iter().find(|of| of.name == "llama-yarn").unwrap().parts;
    let mut whole = whole.clone();
    let keys = [
        ("rope.freq_base", Value::F32(700.0)),
        ("rope.scaling.yarn_beta_fast", Value::F32(1.5)),
        ("rope.scaling.yarn_beta_slow", Value::F32(0.25)),
    ];
    for (key, value) in keys {
        whole.set(&format!("llama.{key}"), Some(value));
    }
    let expected = whole.load().unwrap();
    let all = RopeOptions {
        scaling: Some(RopeScaling::Yarn),
        factor: Some(8.0),
        base: Some(700.0),
        original_context: Some(256),
        yarn_beta_fast: Some(1.5),
        yarn_beta_slow: Some(0.25),
        yarn_attention_factor: Some(f64::from(1.2f32)),
    };
    let mut plain = whole.clone();
    let keys: Vec<String> = plain.keys.iter().map(|(key, _)| key.clone()).collect();
    keys.iter().filter(|key| key.contains(".rope.scaling.")).for_each(|key| plain.set(key, None));
    plain.set("llama.rope.freq_base", None);
    let rope = |model: &Model| {
        let rope = &model.config().kinds[0].rope;
        (rope.frequencies.clone(), rope.factor)
    };
    assert_eq!(rope(&load(&plain, all.clone()).unwrap()), rope(&expected));
    // Each counts, and each stands above the file's key.
    let without: [fn(&mut RopeOptions); 7] = [
        |o| o.scaling = None,
        |o| o.factor = None,
        |o| o.base = None,
        |o| o.original_context = None,
        |o| o.yarn_beta_fast = None,
        |o| o.yarn_beta_slow = None,
        |o| o.yarn_attention_factor = None,
    ];
    for (i, without) in without.into_iter().enumerate() {
        let mut some = all.clone();
        without(&mut some);
        assert_ne!(rope(&load(&plain, some).unwrap()), rope(&expected), "option {i}");
    }
    let none = RopeOptions { scaling: Some(RopeScaling::None), ..RopeOptions::default() };
    let unscaled = RopeOptions { base: Some(700.0), ..RopeOptions::default() };
    let (none, unscaled) = (load(&whole, none).unwrap(), load(&plain, unscaled).unwrap());
    assert_eq!(rope(&none).0, rope(&unscaled).0);
    let linear = RopeOptions { factor: Some(4.0), ..RopeOptions::default() };
    let quarter = |x: &f64| x / 4.0;
    let found = rope(&load(&plain, linear).unwrap()).0;
    let expected = rope(&plain.load().unwrap()).0.iter().map(quarter).collect::<Vec<_>>();
    assert_eq!(found, expected, "a factor alone is linear");
}

#[test]
fn impossible_options_are_refused() {
    let refused = |rope: RopeOptions, text: &str| {
        let error = load(&tiny("f32").parts(), rope).err().unwrap().to_string();
        assert!(error.contains(text), "{error}");
    };
    for x in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        refused(
            RopeOptions { factor: Some(x), ..Default::default() },
            "the factor of positions is",
        );
        refused(RopeOptions { base: Some(x), ..Default::default() }, "the base of rotations is");
        refused(RopeOptions { yarn_beta_fast: Some(x), ..Default::default() }, "YaRN's fast beta");
    }
}

#[test]
fn a_context_beyond_the_trained_one_needs_stretched_positions() {
    let open = |n_ctx: usize, rope: RopeOptions| {
        let options = Options {
            session: SessionOptions { n_ctx, threads: 2, ..SessionOptions::default() },
            speculation: SpecOptions { kind: "none".parse().unwrap(), ..SpecOptions::default() },
            rope,
            ..Options::default()
        };
        let file = tiny("f32").parts().write();
        options.session(options.model(file.path(), &mut ()).unwrap(), &mut ())
    };
    let trained = N_CTX as usize;
    assert!(open(trained, RopeOptions::default()).is_ok());
    let error = open(trained + 1, RopeOptions::default()).err().unwrap();
    assert!(error.is_usage());
    let text = format!("the model was trained for {trained} tokens, not for {}", trained + 1);
    assert!(error.to_string().starts_with(&text), "{error}");
    let none = RopeOptions { scaling: Some(RopeScaling::None), ..RopeOptions::default() };
    assert!(open(trained + 1, none).is_err());
    for rope in [
        RopeOptions { scaling: Some(RopeScaling::Yarn), ..RopeOptions::default() },
        RopeOptions { factor: Some(2.0), ..RopeOptions::default() },
        RopeOptions { base: Some(1e6), ..RopeOptions::default() },
    ] {
        assert!(open(2 * trained, rope).is_ok());
    }
}

/// Cached keys are rotated, so a session goes on only with the rotations that it was saved with.
#[test]
fn a_session_of_other_positions_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.session");
    let session = |model: Model, n_ctx| {
        let options = SessionOptions { n_ctx, threads: 2, ..SessionOptions::default() };
        Session::new(Arc::new(model), options).unwrap()
    };
    let parts = tiny("f32").parts();
    let stretched = RopeOptions { factor: Some(2.0), ..RopeOptions::default() };
    let mut one = session(load(&parts, stretched.clone()).unwrap(), 100);
    write(&mut one, &sequence(20, N_VOCAB, 3), &greedy(), 5);
    one.save(&path).unwrap();
    assert!(session(load(&parts, stretched).unwrap(), 100).load(&path).is_ok());
    let error = session(parts.load().unwrap(), 100).load(&path).err().unwrap();
    assert!(matches!(error, Error::Session { .. }), "{error}");
    // LongRoPE: longer contexts have other frequencies.
    let phi = references().into_iter().find(|of| of.name == "phi3").unwrap().parts;
    let mut short = session(phi.load().unwrap(), 32);
    write(&mut short, &sequence(20, N_VOCAB, 3), &greedy(), 5);
    short.save(&path).unwrap();
    assert!(session(phi.load().unwrap(), 30).load(&path).is_ok());
    assert!(session(phi.load().unwrap(), 33).load(&path).is_err());
}
