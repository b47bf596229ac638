//! Answers that a grammar allows. Drafted and forced tokens do not show in them.

mod common;

use common::answers::{generation, greedy};
use common::drafter::SHAPES;
use common::tiny::tiny;
use common::{load, open_drafter, real_model};
use dovetail::draft::{CandidateSelector, DraftJob, DraftState, Drafter, NGram, RoundContext};
use dovetail::speculate::{SpecSampling, Speculation};
use dovetail::{Constraint, Engine, Error, Generation, Grammar, Model, Request, Sampling};
use dovetail::{Result, Session, SessionOptions, Stop};
use dovetail_kernels::cpu::ThreadPool;
use std::sync::Arc;

const SCHEMA: &str = r#"{
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "colour": {"enum": ["red", "green", "blue"]},
        "sizes": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 99}, "maxItems": 3}
    },
    "required": ["name", "colour", "sizes"],
    "additionalProperties": false
}"#;

const GBNF: &str = r#"
# a list of words
root  ::= "[" item ("," ws? item){0,3} "]"
item  ::= word | "(" root ")"   # recursive
word  ::= [a-cx-z]+ | "\x41\n" | "é"
ws    ::= " "
"#;

fn options() -> SessionOptions {
    SessionOptions { n_ctx: 400, threads: 2, n_ubatch: 64, ..Default::default() }
}

fn session(model: &Arc<Model>, drafts: bool) -> Session {
    let speculation = Speculation::new(Box::new(NGram), "chain:5".parse().unwrap());
    drafted_by(model, drafts.then_some(speculation))
}

fn drafted_by(model: &Arc<Model>, speculation: Option<Speculation>) -> Session {
    let mut session = Session::new(model.clone(), options()).unwrap();
    session.speculate(speculation).unwrap();
    session
}

fn constrained(constraint: &Constraint, sampling: &Sampling, n: usize) -> Generation {
    let constraint = Some(constraint.clone());
    Generation { ignore_end: false, constraint, ..generation(sampling, n) }
}

/// The text, why it ended, and how many of its tokens were drafted or forced.
fn answer(session: &mut Session, prompt: &[u32], what: Generation) -> (String, Stop, usize) {
    session.prompt(prompt, &mut |_, _| true).unwrap();
    session.begin(what).unwrap();
    let (mut text, mut drafted) = (String::new(), 0);
    while let Some(piece) = session.next_piece().unwrap() {
        text.push_str(&piece.text);
        drafted += usize::from(piece.drafted);
    }
    (text, session.stop().unwrap(), drafted)
}

fn samplings(seed: u64) -> [Sampling; 3] {
    let at = |temperature| Sampling { temperature, seed, ..Sampling::default() };
    [
        greedy(),
        at(0.8),
        Sampling { top_k: 0, top_p: 1.0, min_p: 0.0, repeat_penalty: 1.1, ..at(1.5) },
    ]
}

/// Whether a text is one of a grammar.
type Check<'a> = &'a dyn Fn(&str) -> bool;

/// Whether a text is one of `SCHEMA`, by other means than the parser's.
fn is_of_schema(text: &str) -> bool {
    let Ok(value) = serde_json::from_str::<serde_json::Value>(text) else { return false };
    let fields = value.as_object().unwrap();
    let sizes = value["sizes"].as_array().unwrap();
    fields.len() == 3
        && text.starts_with("{\"name\": \"")
        && text.contains("\", \"colour\": \"")
        && value["name"].as_str().unwrap().chars().count() <= 8
        && ["red", "green", "blue"].contains(&value["colour"].as_str().unwrap())
        && sizes.len() <= 3
        && sizes.iter().all(|size| size.as_u64().unwrap() <= 99)
}

/// Whether a text is one of `GBNF`.
fn is_of_gbnf(text: &str) -> bool {
    fn root(text: &str) -> Option<&str> {
        let mut rest = item(text.strip_prefix('[')?)?;
        for _ in 0..3 {
            let Some(next) = rest.strip_prefix(',') else { break };
            rest = item(next.strip_prefix(' ').unwrap_or(next))?;
        }
        rest.strip_prefix(']')
    }
    fn item(text: &str) -> Option<&str> {
        if let Some(inner) = text.strip_prefix('(') {
            return root(inner)?.strip_prefix(')');
        }
        let word = text.trim_start_matches(['a', 'b', 'c', 'x', 'y', 'z']);
        if word.len() < text.len() {
            return Some(word);
        }
        text.strip_prefix("A\n").or(text.strip_prefix('é'))
    }
    root(text) == Some("")
}

#[test]
fn every_whole_answer_is_one_that_the_grammar_allows() {
    let grammars: [(Grammar, Check); 5] = [
        (Grammar::JsonSchema(SCHEMA.into()), &is_of_schema),
        (Grammar::JsonObject, &|text| {
            serde_json::from_str::<serde_json::Value>(text).is_ok_and(|value| value.is_object())
        }),
        (Grammar::Regex("(ab|c[d-f]){2,9}!".into()), &|text| {
            let inner = text.strip_suffix('!').unwrap_or("?");
            inner.replace("ab", "cd").len() % 2 == 0
                && inner.chars().all(|c| ('a'..='f').contains(&c))
        }),
        (Grammar::Lark("start: \"<\" WORD \">\"\nWORD: /[a-z]{1,5}/".into()), &|text| {
            text.starts_with('<') && text.ends_with('>') && (3..=7).contains(&text.len())
        }),
        (Grammar::Gbnf(GBNF.into()), &is_of_gbnf),
    ];
    let mut whole = 0;
    for name in ["f32", "q4_K", "foreign"] {
        let model = Arc::new(tiny(name).parts().load().unwrap());
        let prompt = model.tokenizer().encode("once upon", true, false).unwrap();
        let mut sessions = [false, true].map(|drafts| session(&model, drafts));
        for (grammar, is_allowed) in &grammars {
            let constraint = model.constraint(grammar).unwrap();
            for sampling in (0..4).flat_map(samplings) {
                let [plain, drafted] = sessions.each_mut().map(|session| {
                    answer(session, &prompt, constrained(&constraint, &sampling, 120))
                });
                let about = format!("{name}, {}: {:?}", grammar.name(), plain.0);
                assert_eq!((&plain.0, plain.1), (&drafted.0, drafted.1), "{about}");
                match plain.1 {
                    Stop::End(_) => {
                        assert!(is_allowed(&plain.0), "{about}");
                        whole += 1;
                    }
                    other => assert_eq!(other, Stop::Length, "{about}"),
                }
            }
        }
    }
    assert!(whole >= 60, "{whole} of 180 answers were whole");
}

#[test]
fn what_must_follow_needs_no_round_of_its_own() {
    let model = Arc::new(tiny("f32").parts().load().unwrap());
    let text = "exactly this text, and no other one";
    let constraint = model.constraint(&Grammar::Regex(text.into())).unwrap();
    let prompt = model.tokenizer().encode("once upon", true, false).unwrap();
    for drafts in [false, true] {
        let what = constrained(&constraint, &greedy(), 100);
        let (found, stop, drafted) = answer(&mut session(&model, drafts), &prompt, what);
        let n = model.tokenizer().encode_continuation(text).unwrap().len();
        assert_eq!(found, text);
        assert!(matches!(stop, Stop::End(_)));
        assert!(drafted * 10 >= n * 8, "{drafted} of {n} tokens");
    }
}

/// Behind a text to which nothing can be added there is no round for the token that ends it.
#[test]
fn the_end_of_a_complete_text_needs_no_round() {
    let model = Arc::new(tiny("f32").parts().load().unwrap());
    let prompt = model.tokenizer().encode("once upon", true, false).unwrap();
    for (regex, rounds) in [("[ab]", 0..=0), ("[ab][cd]", 1..=1), ("[ab]c*", 1..=20)] {
        let constraint = model.constraint(&Grammar::Regex(regex.into())).unwrap();
        let mut session = session(&model, true);
        let what = constrained(&constraint, &greedy(), 20);
        let (text, stop, _) = answer(&mut session, &prompt, what);
        assert!(text.starts_with(['a', 'b']), "{text}");
        let is_end =
            matches!(stop, Stop::End(token) if model.tokenizer().is_end_of_generation(token));
        assert!(is_end || *rounds.end() > 1, "{stop:?}");
        assert!(rounds.contains(&session.rounds().unwrap().rounds), "{text}");
    }
}

/// All kinds of drafters for a tiny model, with the shapes of their trees.
fn drafters(model: &Arc<Model>, name: &str) -> [(&'static str, Box<dyn Drafter>, &'static str); 4] {
    let lm = |name: &str| open_drafter("lm", &tiny(name).parts(), model).unwrap();
    let trained = SHAPES[0].parts(tiny(name), model);
    [
        ("ngram", Box::new(NGram), "beam:5,2,9"),
        ("itself", lm(name), "chain:4"),
        ("lm", lm("q4_0"), "beam:3,3,9"),
        ("dgf", open_drafter("dgf", &trained, model).unwrap(), "beam:4,3,14"),
    ]
}

/// Hides a grammar from a drafter: what it drafts is pruned, and it drafts nothing behind tokens that must follow.
struct Unaware(Box<dyn Drafter>);

impl Drafter for Unaware {
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

    fn expand_one(&mut self, job: &mut DraftJob, round: &mut RoundContext) -> Result<()> {
        if job.tree.n_forced() > 0 {
            return Ok(());
        }
        let (mut selector, mut failure) = (CandidateSelector::default(), None);
        let job = DraftJob::new(job.tokens, job.state, job.tree, &mut selector, &mut failure);
        self.0.expand(&mut [job], round);
        failure.map_or(Ok(()), Err)
    }
}

/// Drafters propose what the grammar allows, also behind tokens that must follow: answers take fewer rounds than where
/// the trees are pruned after they have grown, and a drafter that is the target is right every time.
#[test]
fn drafters_know_the_grammar() {
    let name = "f32";
    let model = Arc::new(tiny(name).parts().load().unwrap());
    let prompt = model.tokenizer().encode("once upon", true, false).unwrap();
    let grammars = [
        Grammar::JsonSchema(SCHEMA.into()),
        Grammar::Regex("first [ab]{4,9} then [cd]{4,9}, (red|green)".into()),
        Grammar::Gbnf(GBNF.into()),
        // What this matches cannot be taken back.
        Grammar::Lark("start: \"<\" word \">\"\nword[stop=\"!\"]: /[a-z]{1,20}/".into()),
    ];
    let aware = drafters(&model, name);
    for ((kind, aware, shape), (_, unaware, _)) in aware.into_iter().zip(drafters(&model, name)) {
        let sessions = [Some(aware), Some(Box::new(Unaware(unaware)) as _), None];
        let mut sessions = sessions.map(|drafter| {
            let speculation =
                drafter.map(|drafter| Speculation::new(drafter, shape.parse().unwrap()));
            drafted_by(&model, speculation)
        });
        let mut rounds = [0; 2];
        for (i, grammar) in grammars.iter().enumerate() {
            let constraint = model.constraint(grammar).unwrap();
            for sampling in (0..3).flat_map(samplings) {
                let [aware, unaware, plain] = sessions.each_mut().map(|session| {
                    answer(session, &prompt, constrained(&constraint, &sampling, 100))
                });
                let about = format!("{kind}, {}", grammar.name());
                assert_eq!((&aware.0, aware.1), (&plain.0, plain.1), "{about}");
                assert_eq!((&unaware.0, unaware.1), (&plain.0, plain.1), "{about}");
                for (sum, session) in rounds.iter_mut().zip(&sessions) {
                    assert!(session.stats().mask_time.as_nanos() > 0);
                    *sum += session.rounds().unwrap().rounds;
                }
                let drafted = sessions[0].rounds().unwrap();
                // A grammar's choices say nothing about the drafter.
                let counted = drafted.without_grammar;
                assert!(counted.rounds == 0 && drafted.depths.is_empty(), "{drafted:?}");
                if kind == "itself" && sampling.temperature == 0.0 && i < 3 {
                    let all = (drafted.drafted, drafted.accepted);
                    // Behind the last round's end nothing is accepted.
                    assert!(all.0 - all.1 <= 4, "{about}: {all:?} of {:?}", aware.0);
                }
            }
        }
        let [aware, unaware] = rounds;
        let most = if kind == "itself" { unaware * 3 / 4 } else { unaware };
        assert!(aware <= most, "{kind}: {aware} rounds instead of {unaware}");
    }
}

/// Sampled candidates come from the tokens that the grammar allows, and the text is still one of the grammar.
#[test]
fn sampled_candidates_are_allowed_too() {
    let model = Arc::new(tiny("f32").parts().load().unwrap());
    let prompt = model.tokenizer().encode("once upon", true, false).unwrap();
    let constraint = model.constraint(&Grammar::JsonSchema(SCHEMA.into())).unwrap();
    let open = || open_drafter("lm", &tiny("f32").parts(), &model).unwrap();
    let mut accepted = [0, 0];
    for (aware, accepted) in [true, false].into_iter().zip(&mut accepted) {
        let drafter = if aware { open() } else { Box::new(Unaware(open())) };
        let speculation = Speculation::new(drafter, "beam:3,2,7".parse().unwrap());
        let speculation = speculation.with_sampling(SpecSampling::Rejection);
        let mut session = drafted_by(&model, Some(speculation));
        for seed in 0..8 {
            let what = constrained(&constraint, &samplings(seed)[1], 150);
            let (text, stop, _) = answer(&mut session, &prompt, what);
            if let Stop::End(_) = stop {
                assert!(is_of_schema(&text), "{text}");
            }
            *accepted += session.rounds().unwrap().accepted;
        }
    }
    assert!(accepted[0] > accepted[1], "{accepted:?}");
}

/// A grammar whose texts have no end, and one that must go on for longer than the parser looks ahead.
#[test]
fn a_grammar_that_exceeds_the_parsers_limits_ends_the_answer() {
    let model = Arc::new(tiny("f32").parts().load().unwrap());
    let prompt = model.tokenizer().encode("once upon", true, false).unwrap();
    let endless = "root ::= [abc] [abc] more\nmore ::= \"xy\" more";
    let long = format!("root ::= [abc] [abc] ({:?}){{9000}}", "xyzxyz");
    for (grammar, unit) in [(endless, "xy"), (&long, "xyzxyz")] {
        let constraint = model.constraint(&Grammar::Gbnf(grammar.into())).unwrap();
        for sampling in samplings(3) {
            let [plain, drafted] = [false, true].map(|drafts| {
                let what = constrained(&constraint, &sampling, 100);
                let (text, stop, _) = answer(&mut session(&model, drafts), &prompt, what);
                (text, stop)
            });
            assert_eq!(plain, drafted);
            assert_eq!(plain.1, Stop::Constraint);
            let free = plain.0.trim_start_matches(['a', 'b', 'c']);
            assert!(plain.0.len() - free.len() == 2, "{plain:?}");
            assert!(unit.repeat(100).starts_with(free), "{plain:?}");
        }
    }
}

/// Several sequences share passes; each has a constraint of its own, or none.
#[test]
fn beside_others_each_answer_is_the_same_as_alone() {
    let model = Arc::new(tiny("q4_K").parts().load().unwrap());
    let schema = model.constraint(&Grammar::JsonSchema(SCHEMA.into())).unwrap();
    let gbnf = model.constraint(&Grammar::Gbnf(GBNF.into())).unwrap();
    let prompt = model.tokenizer().encode("once upon", true, false).unwrap();
    let generations: Vec<Generation> = (0..9)
        .map(|i| match i % 3 {
            0 => constrained(&schema, &samplings(i)[1], 60),
            1 => constrained(&gbnf, &samplings(i)[2], 60),
            _ => generation(&samplings(i)[1], 60),
        })
        .collect();
    let alone: Vec<String> = generations
        .iter()
        .map(|what| answer(&mut session(&model, false), &prompt, what.clone()).0)
        .collect();
    let mut engine = Engine::new(model.clone(), options(), 9).unwrap();
    engine.add_drafter(Speculation::new(Box::new(NGram), "chain:5".parse().unwrap())).unwrap();
    let ids: Vec<_> = generations
        .iter()
        .map(|what| {
            let request =
                Request { prompt: prompt.clone(), generation: what.clone(), drafter: None };
            engine.add(request).unwrap()
        })
        .collect();
    let mut texts = vec![String::new(); ids.len()];
    let mut take = |id, piece: dovetail::Piece| {
        texts[ids.iter().position(|other| *other == id).unwrap()].push_str(&piece.text);
    };
    while engine.step(&mut take).unwrap() {}
    assert_eq!(texts, alone);
}

/// A trained drafter drafts the same for a sequence beside others, whether or not tokens must follow in some of them.
#[test]
fn beside_others_each_tree_is_the_same_as_alone() {
    let model = Arc::new(tiny("f32").parts().load().unwrap());
    let schema = model.constraint(&Grammar::JsonSchema(SCHEMA.into())).unwrap();
    let regex = Grammar::Regex("first [ab]{4,9} then [cd]{4,9}, (red|green)".into());
    let regex = model.constraint(&regex).unwrap();
    let prompt = model.tokenizer().encode("once upon", true, false).unwrap();
    let generations = [
        constrained(&schema, &greedy(), 60),
        generation(&greedy(), 60),
        constrained(&regex, &greedy(), 60),
    ];
    let counts = |generations: &[Generation]| -> Vec<(usize, usize, usize)> {
        let mut engine = Engine::new(model.clone(), options(), 3).unwrap();
        let trained = SHAPES[0].parts(tiny("f32"), &model);
        let drafter = open_drafter("dgf", &trained, &model).unwrap();
        engine.add_drafter(Speculation::new(drafter, "beam:3,3,9".parse().unwrap())).unwrap();
        let add = |what: &Generation| {
            let request =
                Request { prompt: prompt.clone(), generation: what.clone(), drafter: None };
            engine.add(request).unwrap()
        };
        let ids: Vec<_> = generations.iter().map(add).collect();
        while engine.step(&mut |_, _| ()).unwrap() {}
        let rounds = ids.iter().map(|id| engine.remove(*id).unwrap().rounds.unwrap());
        rounds.map(|r| (r.rounds, r.drafted, r.accepted)).collect()
    };
    let alone: Vec<_> =
        generations.iter().flat_map(|one| counts(std::slice::from_ref(one))).collect();
    assert_eq!(counts(&generations), alone);
    assert!(alone.iter().all(|(_, drafted, _)| *drafted > 0), "{alone:?}");
}

#[test]
fn what_comes_before_the_marker_is_free() {
    let Some(path) = real_model() else { return };
    let model = Arc::new(load(&path).unwrap());
    let constraint = model.constraint(&Grammar::Regex("(yes|no)".into())).unwrap().after(".");
    let prompt = model.tokenizer().encode_prompt("The sky is").unwrap();
    let what = constrained(&constraint, &greedy(), 60);
    let (text, stop, _) = answer(&mut session(&model, true), &prompt, what);
    let (before, after) = text.split_once('.').unwrap();
    assert!(before.len() > 3 && ["yes", "no"].contains(&after.trim()), "{text}");
    assert!(matches!(stop, Stop::End(_)));
}

#[test]
fn what_cannot_be_a_grammar_is_refused_in_one_line() {
    let model = Arc::new(tiny("f32").parts().load().unwrap());
    let deep = format!("root ::= {}\"a\"{}", "(".repeat(5000), ")".repeat(5000));
    let nested = |n: usize| format!("{}{}", "{\"not\":".repeat(n), "{}") + &"}".repeat(n);
    for (grammar, part) in [
        (Grammar::JsonSchema("{".into()), "JSON schema"),
        (Grammar::JsonSchema("{\"type\": \"colour\"}".into()), "JSON schema"),
        (Grammar::JsonSchema("false".into()), "JSON schema"),
        (Grammar::JsonSchema(nested(5000)), "JSON schema"),
        (Grammar::Regex("(".into()), "regular expression"),
        (Grammar::Regex("(".repeat(100_000)), "regular expression"),
        (Grammar::Lark("start: other".into()), "Lark grammar"),
        (Grammar::Lark(format!("start: {}", "(".repeat(100_000))), "Lark grammar"),
        (Grammar::Gbnf(String::new()), "rule `root` is not defined"),
        (Grammar::Gbnf("root ::= other".into()), "rule `other` is not defined"),
        (Grammar::Gbnf("root ::= \"a\nb ::= \"c\"".into()), "line 2 has a line break"),
        (Grammar::Gbnf("root ::= [z-a]".into()), "line 1 has a range"),
        (Grammar::Gbnf("root ::= \"a\"{5,2}".into()), "line 1 has a repetition"),
        (Grammar::Gbnf("root ::= root".into()), "GBNF grammar"),
        (Grammar::Gbnf(deep), "line 1 is nested too deep"),
        (Grammar::Gbnf(format!("root ::= {}", "\"a\" ".repeat(300_000))), "it is too large"),
    ] {
        let start = std::time::Instant::now();
        match model.constraint(&grammar) {
            Err(Error::Invalid(line)) => {
                assert!(line.contains(part) && !line.contains('\n'), "{line}");
                assert!(line.len() < 2000, "{line}");
            }
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("{grammar:?} compiles"),
        }
        assert!(start.elapsed().as_secs() < 20, "{grammar:?}");
    }
}

/// What is small as a text and large as a parser: it is refused, or its answers are drawn, soon.
#[test]
fn a_grammar_that_grows_when_it_is_compiled_ends_soon() {
    let model = Arc::new(tiny("f32").parts().load().unwrap());
    let prompt = model.tokenizer().encode("once upon", true, false).unwrap();
    let doubled = |n: usize| {
        (0..n).fold("{\"type\":\"string\"}".to_owned(), |inner, _| {
            format!("{{\"allOf\":[{{\"anyOf\":[{inner},{{\"minLength\":1}}]}},{{\"anyOf\":[{{}},true]}}]}}")
        })
    };
    let rules: String = (0..60).map(|i| format!("r{i} ::= r{} r{}\n", i + 1, i + 1)).collect();
    for grammar in [
        Grammar::Regex("((a{1,1000}){1,1000}){1,1000}".into()),
        Grammar::Regex("(.{0,60000}x){0,60000}".into()),
        Grammar::Regex("(a?){5000}a{5000}".into()),
        Grammar::Regex("(.*a.*b.*c.*){9}&(.*d.*){99}".into()),
        Grammar::JsonSchema(doubled(12)),
        Grammar::JsonSchema("{\"type\":\"array\",\"minItems\":1000000000}".into()),
        Grammar::JsonSchema("{\"type\":\"string\",\"minLength\":1000000000}".into()),
        Grammar::JsonSchema("{\"multipleOf\":1e-300,\"type\":\"number\",\"minimum\":1e300}".into()),
        Grammar::JsonSchema(format!("{{\"enum\":[{}0]}}", "\"a long text\",".repeat(20_000))),
        Grammar::Gbnf("root ::= ((([a-z]{65535}){65535}){65535})?".into()),
        Grammar::Gbnf(format!("root ::= r0\n{rules}r60 ::= \"a\"?")),
        Grammar::Lark("start: (\"a\"? \"b\"? start?){100} \"c\"".into()),
    ] {
        let start = std::time::Instant::now();
        if let Ok(constraint) = model.constraint(&grammar) {
            answer(&mut session(&model, true), &prompt, constrained(&constraint, &greedy(), 20));
        }
        let (took, text) = (start.elapsed(), format!("{grammar:?}"));
        assert!(took.as_secs() < 20, "{took:?}: {:.80}", text);
        eprintln!("{took:?}: {text:.80}");
    }
}
