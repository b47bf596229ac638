//! Caches of layers with windows hold what rows see, and no more; nothing of that shows in the text.

mod common;

use common::alone::Alone;
use common::answers::{greedy, write};
use common::bits::{assert_same_bits, cache_types, logits, sequence};
use common::real_model;
use common::reference::references;
use common::tiny::{N_VOCAB, tiny};
use dovetail::draft::{self, DrafterContext, Placement};
use dovetail::infer::{CacheTypes, KvCache, KvSize, Outputs};
use dovetail::speculate::Speculation;
use dovetail::tree::Tree;
use dovetail::{Engine, Model, Request, Session, SessionOptions};
use std::sync::Arc;

/// Positions of the sequences, which are several times as long as the rings.
const N_CTX: usize = 1100;

/// All layers of one have a window; the other has windows of two lengths, and layers that see all.
fn models() -> impl Iterator<Item = (&'static str, Arc<Model>)> {
    let load = |name| (name, Arc::new(tiny(name).parts().load().unwrap()));
    ["window", "everything"].into_iter().map(load)
}

/// Rings, for passes of 8 rows, and a cache of all positions, for passes of so many.
fn pair(model: &Arc<Model>, types: CacheTypes) -> [Alone; 2] {
    [8, N_CTX].map(|rows| Alone::with_cache(model.clone(), N_CTX, 2, rows, types))
}

#[test]
fn a_ring_is_smaller_than_the_context() {
    let types = CacheTypes::default();
    let bytes = |model: &Model, n_ctx, rows| {
        KvCache::bytes_for(model.config(), KvSize { n_ctx, rows, types })
    };
    let (_, window) = models().next().unwrap();
    assert_eq!(bytes(&window, 100_000, 8), bytes(&window, 256, 8));
    assert_eq!(bytes(&window, 200, 8), bytes(&window, 256, 8));
    let gemma = references().into_iter().find(|of| of.name == "gemma3").unwrap();
    let gemma = gemma.parts.load().unwrap();
    // One of seven layers sees all.
    assert!(bytes(&gemma, 100_000, 8) * 6 < 100_000 * bytes(&gemma, 256, 8) / 256);
    if let Some(path) = real_model() {
        let full = common::load(&path).unwrap();
        assert_eq!(bytes(&full, 2048, 8), 2 * bytes(&full, 1024, 8));
    }
}

#[test]
fn logits_are_those_of_a_whole_cache() {
    let tokens = sequence(N_CTX, N_VOCAB, 4);
    for (name, model) in models() {
        for types in cache_types() {
            let [mut ring, mut whole] = pair(&model, types);
            let expected = logits(&mut whole, &tokens, N_CTX);
            let found = logits(&mut ring, &tokens, 7);
            assert_same_bits(&found, &expected, N_VOCAB, &format!("{name}, {types:?}"));
        }
    }
}

/// A tree whose last nodes lie wherever chunks and rings end.
#[test]
fn trees_lie_across_the_end_of_a_ring() {
    let tokens = sequence(N_CTX, N_VOCAB, 5);
    for (name, model) in models() {
        let [mut ring, mut whole] = pair(&model, CacheTypes::default());
        let mut first = 0;
        for len in [200, 250, 450, 505, 700, 762, 1000, 1020] {
            for target in [&mut ring, &mut whole] {
                tokens[first..len].chunks(8).for_each(|some| {
                    target.append(some, Outputs::None).unwrap();
                });
            }
            // A path of seven nodes, beside each of which stands another; a level is a pass.
            let (mut tree, mut path, mut rows) =
                (Tree::new(tokens[len]), vec![0], [vec![], vec![]]);
            for depth in 1..=7 {
                let done = if depth == 1 { 0 } else { tree.len() - 2 };
                for (target, rows) in [&mut ring, &mut whole].into_iter().zip(&mut rows) {
                    target.verify_more(&tree, done).unwrap();
                    for r in 0..tree.len() - done {
                        let mut row = Vec::new();
                        target.logits(r).copy_to(&mut row);
                        rows.extend(row.iter().map(|x| x.to_bits()));
                    }
                }
                if depth < 7 {
                    let parent = path[depth - 1];
                    tree.push(parent, 3 + depth as u32, -1.0).unwrap();
                    path.push(tree.push(parent, tokens[len + depth], -0.5).unwrap());
                }
            }
            for target in [&mut ring, &mut whole] {
                target.keep(&path).unwrap();
            }
            assert_same_bits(&rows[0], &rows[1], N_VOCAB, &format!("{name}, behind {len}"));
            first = len + 7;
        }
    }
}

#[test]
fn a_path_can_be_dropped_and_more_is_read_again() {
    let tokens = sequence(N_CTX, N_VOCAB, 6);
    for (name, model) in models() {
        let [mut ring, mut whole] = pair(&model, CacheTypes::default());
        let expected = logits(&mut whole, &tokens, N_CTX);
        tokens.chunks(8).for_each(|some| ring.append(some, Outputs::None).unwrap());
        ring.truncate(N_CTX - 64);
        let found = logits(&mut ring, &tokens[N_CTX - 64..], 8);
        let expected = &expected[(N_CTX - 64) * N_VOCAB..];
        assert_same_bits(&found, expected, N_VOCAB, name);
        assert_eq!(ring.seq.truncate(N_CTX / 2), 0, "what the next row sees is gone");
        assert_eq!(ring.seq.len(), 0);
        assert_eq!(whole.seq.truncate(N_CTX / 2), N_CTX / 2);
    }
}

/// The text of a session that goes on from a prefix, from a file, or with a drafter.
#[test]
fn texts_are_those_of_a_new_session() {
    let text = sequence(N_CTX - 100, N_VOCAB, 7);
    let options = SessionOptions { n_ctx: N_CTX, threads: 2, n_ubatch: 24, ..Default::default() };
    let session = |model: &Arc<Model>| Session::new(model.clone(), options.clone()).unwrap();
    for (name, model) in models() {
        let alone = |prompt: &[u32]| write(&mut session(&model), prompt, &greedy(), 40);
        let mut one = session(&model);
        for prompt in [&text[..], &text[..300], &text[..900]] {
            assert_eq!(write(&mut one, prompt, &greedy(), 40), alone(prompt), "{name}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.session");
        write(&mut one, &text, &greedy(), 20);
        one.save(&path).unwrap();
        let mut two = session(&model);
        two.load(&path).unwrap();
        assert_eq!(two.tokens(), &alone(&text).0[..text.len() + 20], "{name}");
        assert_eq!(write(&mut two, &text, &greedy(), 40), alone(&text), "{name}, from a file");
        let file = tiny("window").parts().write();
        let (path, placement) = (Some(file.path()), Placement::CPU);
        let setup = DrafterContext { target: &model, n_ctx: N_CTX, threads: 2, path, placement };
        let drafter = (draft::kind("lm").unwrap().open)(&setup).unwrap();
        let mut drafted = session(&model);
        let speculation = Speculation::new(drafter, "beam:3,3,9".parse().unwrap());
        drafted.speculate(Some(speculation)).unwrap();
        for prompt in [&text[..], &text[..700], &text[..100]] {
            let found = write(&mut drafted, prompt, &greedy(), 40);
            assert_eq!(found, alone(prompt), "{name}, drafted");
            assert_eq!(drafted.take_drafter_error().map(|e| e.to_string()), None);
        }
    }
}

/// Prompts whose beginning is known are read from a checkpoint on: in the same slot, in another one, and where the
/// sequence was kept in memory. Texts are those of a session that reads everything.
#[test]
fn a_known_beginning_is_not_read_again() {
    const COMMON: usize = 520;
    const OWN: usize = 500;
    let options = SessionOptions { n_ctx: N_CTX, threads: 2, n_ubatch: 64, ..Default::default() };
    for (name, model) in models() {
        let mut engine = Engine::new(model.clone(), options.clone(), 2).unwrap();
        // The number of prompt tokens that were run.
        let ask = |engine: &mut Engine, prompt: &[u32]| {
            let mut request = Request::new(prompt.to_vec(), 9);
            (request.generation.sampling, request.generation.ignore_end) = (greedy(), true);
            let id = engine.add(request).unwrap();
            while engine.step(&mut |_, _| {}).unwrap() {}
            let answer = engine.remove(id).unwrap();
            let mut alone = Session::new(model.clone(), options.clone()).unwrap();
            let (tokens, _) = write(&mut alone, prompt, &greedy(), 9);
            assert_eq!(answer.tokens, tokens[prompt.len()..], "{name}");
            assert_eq!(answer.stats.prompt_n + answer.stats.cached_n, prompt.len());
            (answer.stats.prompt_n, tokens)
        };
        let system = sequence(COMMON, N_VOCAB, 8);
        let with = |seed| [&system[..], &sequence(OWN, N_VOCAB, seed)].concat();
        let others = |engine: &mut Engine| {
            for seed in [31, 32] {
                ask(engine, &sequence(200, N_VOCAB, seed));
            }
        };
        assert_eq!(ask(&mut engine, &with(1)).0, COMMON + OWN);
        assert_eq!(ask(&mut engine, &with(2)).0, COMMON + OWN, "no memory is for checkpoints");
        engine.set_prefix_cache(1 << 26);
        others(&mut engine);
        assert_eq!(ask(&mut engine, &with(3)).0, COMMON + OWN);
        // The checkpoint behind 512 tokens.
        assert_eq!(ask(&mut engine, &with(4)).0, COMMON + OWN - 512, "{name}");
        // The conversation goes on; then its last turn is another one.
        let turn = |talk: &[u32], seed| [talk, &sequence(40, N_VOCAB, seed)].concat();
        let (_, talk) = ask(&mut engine, &with(4));
        let (n, _) = ask(&mut engine, &turn(&talk, 5));
        assert!(n <= 41, "{n}");
        let (n, _) = ask(&mut engine, &turn(&talk, 6));
        assert!(n <= 50, "{n}");
        others(&mut engine);
        let (n, _) = ask(&mut engine, &turn(&talk, 7));
        assert!(n <= 50, "{name}: {n}, from memory");
        // While one slot writes, the other one gets its beginning.
        let mut busy = Request::new(turn(&talk, 8), 1000);
        busy.generation.ignore_end = true;
        let busy = engine.add(busy).unwrap();
        while engine.stats(busy).unwrap().predicted_n == 0 {
            engine.step(&mut |_, _| {}).unwrap();
        }
        let id = engine.add(Request::new(with(9), 3)).unwrap();
        while engine.stop(id).is_none() {
            engine.step(&mut |_, _| {}).unwrap();
        }
        assert_eq!(engine.remove(id).unwrap().stats.prompt_n, COMMON + OWN - 512, "{name}");
        engine.remove(busy).unwrap();
    }
}
