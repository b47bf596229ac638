//! What fuzzing does with any bytes as a grammar: it is compiled or refused, soon, and answers are the same with drafted
//! tokens and without.

use super::grown::{Forms, grown};
use super::tiny::tiny;
use dovetail::draft::NGram;
use dovetail::speculate::Speculation;
use dovetail::{Constraint, Error, Generation, Grammar, Model, Sampling};
use dovetail::{Session, SessionOptions, Stop};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The longest that anything may take: many times of what it does, for machines that do other things meanwhile.
const MAX_TIME: Duration = Duration::from_secs(20);

/// Tokens of an answer.
const ANSWER_TOKENS: usize = 24;

/// JSON schemas, and the numbers and regular expressions in them.
pub const SCHEMAS: Forms = &[
    (
        'J',
        8,
        &[
            "{}",
            "true",
            "{\"type\":\"integer\"}",
            "{\"type\":\"boolean\"}",
            "{\"enum\":[\"a\",\"bc\",1,null]}",
            "{\"const\":\"é\"}",
            "{\"type\":[\"string\",\"null\"]}",
            "{\"$ref\":\"#/$defs/r\"}",
            "{\"type\":\"string\",\"minLength\":@N,\"maxLength\":@N}",
            "{\"type\":\"string\",\"pattern\":\"@P\"}",
            "{\"type\":\"string\",\"format\":\"@F\"}",
            "{\"type\":\"integer\",\"minimum\":@N,\"maximum\":@N}",
            "{\"type\":\"number\",\"exclusiveMinimum\":@N,\"multipleOf\":@N}",
            "{\"type\":\"array\",\"items\":@J,\"minItems\":@N,\"maxItems\":@N}",
            "{\"type\":\"array\",\"prefixItems\":[@J,@J],\"items\":@J}",
            "{\"type\":\"array\",\"uniqueItems\":true,\"items\":@J}",
            "{\"type\":\"object\",\"properties\":{\"a\":@J,\"b\":@J},\"required\":[\"a\"]}",
            "{\"type\":\"object\",\"properties\":{\"a\":@J},\"additionalProperties\":@J}",
            "{\"type\":\"object\",\"patternProperties\":{\"@P\":@J},\"minProperties\":@N}",
            "{\"$defs\":{\"r\":@J},\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/r\"}}",
            "{\"definitions\":{\"r\":@J},\"$ref\":\"#/definitions/r\"}",
            "{\"type\":\"object\",\"properties\":{\"a\":{\"$ref\":\"#\"}}}",
            "{\"anyOf\":[@J,@J]}",
            "{\"oneOf\":[@J,@J,@J]}",
            "{\"allOf\":[@J,@J]}",
            "{\"not\":@J}",
            "{\"x-guidance\":{\"item_separator\":\"@P\",\"whitespace_flexible\":false},\"items\":@J}",
            "false",
            "{\"type\":\"colour\"}",
            "[@J]",
        ],
    ),
    (
        'N',
        3,
        &["0", "1", "2", "5", "-1", "0.5", "999", "65535", "99999999999", "1e30", "1e-9", "\"1\""],
    ),
    (
        'F',
        1,
        &[
            "date",
            "time",
            "date-time",
            "duration",
            "email",
            "hostname",
            "ipv4",
            "ipv6",
            "uuid",
            "uri",
            "colour",
        ],
    ),
    (
        'P',
        5,
        &[
            "a",
            "[a-z]+",
            ".",
            "",
            "é",
            "@P@P",
            "(@P|@P)",
            "(@P)*",
            "(@P)?",
            "(@P){@M}",
            "^@P$",
            "[^a]*",
            "(?i:@P)",
            "[0-9]{@M}",
            "(?s:.)",
            "(?=@P)",
            "(@P",
            "[z-a]",
            "\\",
        ],
    ),
    ('M', 2, &["2", "0,3", "1,", "50", "1000", "65535", "9,2", "0", "99999999999"]),
];

/// Lark grammars and GBNF grammars.
const GRAMMARS: Forms = &[
    (
        'K',
        3,
        &[
            "start: @X",
            "start: @X\nr: @X\nT: /@P/",
            "start: r T\nr: @X\nT: @E",
            "start: @X\nr: @X | @X\nT: @E",
            "start: r\nr[lazy]: @X\nT: /@P/",
            "start[max_tokens=5]: @X\nr[stop=\"a\"]: @X\nT: \"b\"",
            "start[capture]: r\nr[temperature=0.5]: @X\nT: @E",
            "%ignore /@P/\nstart: @X\nr: @X\nT: @E",
            "%import common.INT\nstart: INT @X\nr: T\nT: @E",
            "%llguidance {}\nstart: @X\nr: @X\nT: @E",
            "start: p::0x0\np::_: \"a\" p::incr(_) %if lt(_, 9) | @X\nr: T\nT: @E",
        ],
    ),
    (
        'X',
        3,
        &[
            "\"a\"",
            "T",
            "\"\"",
            "r",
            "start",
            "/@P/",
            "@X @X",
            "(@X | @X)",
            "(@X)*",
            "(@X)+",
            "(@X)?",
            "(@X){@M}",
            "\"a\"..\"z\"",
            "%json @J",
            "%regex {\"substring_chars\": \"abcab\"}",
            "%regex {\"substring_words\": \"a b c\"}",
            "<|im_end|>",
            "<[1-9]>",
            "nobody",
        ],
    ),
    (
        'E',
        3,
        &[
            "/@P/",
            "\"b\"",
            "/[0-9]/",
            "(@E | @E)",
            "@E @E",
            "(@E)*",
            "(@E){@M}",
            "~(@E)",
            "@E & @E",
        ],
    ),
    (
        'G',
        2,
        &[
            "root ::= @Y",
            "root ::= @Y\nr ::= @Y",
            "root ::= r @Y\nr ::= @Y # one\n",
            "root ::=\n @Y |\n @Y\nr ::= @Y | @Y\n\n",
            "root ::= r r r\nr ::= s | @Y\ns ::= t t\nt ::= u? u?\nu ::= @Y",
        ],
    ),
    (
        'Y',
        4,
        &[
            "\"ab\"",
            "[a-z]",
            "\"\"",
            ".",
            "r",
            "root",
            "@Y @Y",
            "(@Y | @Y)",
            "(@Y)*",
            "@Y+",
            "@Y?",
            "(@Y){@M}",
            "[^\\n\"a]",
            "[\\x41-\\u00e9]",
            "\"\\U0001F600\\\"\"",
            "[]",
            "nobody",
            "((((@Y))))",
        ],
    ),
];

/// A small model, and two sessions of it: without a drafter and with one.
pub struct Place {
    model: Arc<Model>,
    prompt: Vec<u32>,
    sessions: [Session; 2],
}

/// Makes the model and the sessions.
pub fn place() -> Place {
    let model = Arc::new(tiny("f32").parts().load().expect("it is a model"));
    let prompt = model.tokenizer().encode("once upon", true, false).expect("all bytes have tokens");
    let sessions = [false, true].map(|drafts| {
        let options = SessionOptions { n_ctx: 64, threads: 1, n_ubatch: 16, ..Default::default() };
        let mut session = Session::new(model.clone(), options).expect("there is memory");
        let speculation =
            Speculation::new(Box::new(NGram), "chain:4".parse().expect("it is a tree"));
        session.speculate(drafts.then_some(speculation)).expect("the drafter fits");
        session
    });
    Place { model, prompt, sessions }
}

/// Any bytes as a grammar: the first chooses its kind and whether the others are its text or its choices.
fn grammar(data: &[u8]) -> Option<Grammar> {
    let (first, rest) = data.split_first()?;
    let text = |symbol| match first & 4 {
        0 => grown(symbol, &[SCHEMAS, GRAMMARS], rest),
        _ => String::from_utf8_lossy(rest).into_owned(),
    };
    Some(match first % 4 {
        0 => Grammar::JsonSchema(text('J')),
        1 => Grammar::Regex(text('P')),
        2 => Grammar::Lark(text('K')),
        _ => Grammar::Gbnf(text('G')),
    })
}

/// Compiles what the bytes give, and draws an answer. See the module.
pub fn constrain(place: &mut Place, data: &[u8]) {
    let Some((seed, data)) = data.split_first() else { return };
    let Some(grammar) = grammar(data) else { return };
    let start = Instant::now();
    match place.model.constraint(&grammar) {
        Ok(constraint) => {
            let [plain, drafted] = place.answers(&constraint, u64::from(*seed));
            assert_eq!(plain, drafted, "{grammar:?}");
        }
        Err(Error::Invalid(line)) => {
            assert!(!line.contains(['\n', '\r']) && line.len() < 2000, "{line}");
            assert!(!line.contains("panic"), "{line}: {grammar:?}");
        }
        Err(other) => panic!("{other}: {grammar:?}"),
    }
    assert!(start.elapsed() < MAX_TIME, "{:?}: {grammar:?}", start.elapsed());
}

impl Place {
    /// An answer of each session: its text, and why it ended.
    fn answers(&mut self, constraint: &Constraint, seed: u64) -> [(String, Stop); 2] {
        // All tokens that may follow are about as likely.
        let (temperature, top_k, top_p, min_p) = (4.0, 0, 1.0, 0.0);
        let sampling = Sampling { temperature, top_k, top_p, min_p, seed, ..Sampling::default() };
        self.sessions.each_mut().map(|session| {
            assert!(session.prompt(&self.prompt, &mut |_, _| true).expect("it fits"));
            let (sampling, constraint) = (sampling.clone(), Some(constraint.clone()));
            let n_predict = ANSWER_TOKENS;
            let what = Generation { sampling, constraint, n_predict, ..Generation::default() };
            session.begin(what).expect("it can be begun");
            let mut text = String::new();
            while let Some(piece) = session.next_piece().expect("no pass fails") {
                text.push_str(&piece.text);
            }
            (text, session.stop().expect("it has ended"))
        })
    }
}
