//! Constrained output: the tokens that may follow, so that the whole text is one that a grammar allows.
//!
//! ```text
//! mod.rs          a grammar in one of its forms, compiled for a vocabulary
//! constraint.rs   a compiled grammar behind some tokens: what may follow, what must follow
//! vocabulary.rs   the vocabulary as the parser sees it
//! gbnf.rs         llama.cpp's GBNF as a Lark grammar
//! ```
//!
//! The parser is llguidance's. Its limits bound the time and memory of a grammar and of each token.

mod constraint;
mod gbnf;
mod vocabulary;

pub use constraint::Constraint;
pub(crate) use constraint::TokenMask;

use super::{Tokenizer, json_schema};
use crate::error::{Error, Result};
use llguidance::api::TopLevelGrammar;
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::InferenceCapabilities;
use llguidance::{Matcher, ParserFactory};
use std::sync::Arc;
use vocabulary::Vocabulary;

/// What a text may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grammar {
    /// Any JSON object, in one line.
    JsonObject,
    /// A JSON value that this JSON schema describes, in one line with `, ` between items and `: ` behind keys.
    JsonSchema(String),
    /// A text that this regular expression matches whole.
    Regex(String),
    /// A text of this Lark grammar, in llguidance's dialect.
    Lark(String),
    /// A text of this grammar in llama.cpp's GBNF.
    Gbnf(String),
}

impl Grammar {
    /// What users call this form.
    pub fn name(&self) -> &'static str {
        match self {
            Grammar::JsonObject | Grammar::JsonSchema(_) => "JSON schema",
            Grammar::Regex(_) => "regular expression",
            Grammar::Lark(_) => "Lark grammar",
            Grammar::Gbnf(_) => "GBNF grammar",
        }
    }

    /// The same for the parser.
    fn to_parser(&self) -> std::result::Result<TopLevelGrammar, String> {
        Ok(match self {
            Grammar::JsonObject => {
                let schema = serde_json::json!({ "type": "object" });
                TopLevelGrammar::from_json_schema(json_schema::in_one_line(schema))
            }
            Grammar::JsonSchema(schema) => {
                let schema = serde_json::from_str(schema).map_err(|error| error.to_string())?;
                TopLevelGrammar::from_json_schema(json_schema::in_one_line(schema))
            }
            Grammar::Regex(regex) => TopLevelGrammar::from_regex(regex),
            Grammar::Lark(lark) => TopLevelGrammar::from_lark(lark.clone()),
            Grammar::Gbnf(gbnf) => TopLevelGrammar::from_lark(gbnf::to_lark(gbnf)?),
        })
    }
}

/// Compiles grammars for one vocabulary.
pub struct GrammarCompiler {
    factory: ParserFactory,
    vocabulary: Arc<Vocabulary>,
}

impl GrammarCompiler {
    /// A compiler for this tokenizer. It takes a tenth of a second for a large vocabulary.
    ///
    /// # Errors
    /// If the vocabulary is empty.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Result<GrammarCompiler> {
        let vocabulary = Arc::new(Vocabulary::new(tokenizer));
        let forced = InferenceCapabilities { ff_tokens: true, ..Default::default() };
        let slices = SlicedBiasComputer::general_slices();
        let env: llguidance::toktrie::TokEnv = vocabulary.clone();
        let mut factory = ParserFactory::new(&env, forced, &slices).map_err(|error| {
            Error::Unsupported(format!("the vocabulary cannot be constrained: {error}"))
        })?;
        factory.quiet().limits_mut().verbose_errors = false;
        Ok(GrammarCompiler { factory, vocabulary })
    }

    /// Compiles a grammar.
    ///
    /// # Errors
    /// If it is malformed, allows no text, or is too large.
    pub fn compile(&self, grammar: &Grammar) -> Result<Constraint> {
        let wrong = |what: String| {
            let what = one_line(&what);
            Error::Invalid(format!("the {} cannot be used: {what}", grammar.name()))
        };
        let parser = self.factory.create_parser(grammar.to_parser().map_err(wrong)?);
        let mut matcher = Matcher::new(parser);
        if let Err(error) = matcher.compute_mask_or_eos() {
            return Err(wrong(error.to_string()));
        }
        Ok(Constraint::new(matcher, self.vocabulary.clone()))
    }
}

/// A message without line breaks, cut where it quotes the whole grammar. The parser reports its own panics as errors.
fn one_line(message: &str) -> String {
    const MAX_CHARS: usize = 300;
    if message.starts_with("panic:") {
        return "the parser has a fault with it; write it in another way".into();
    }
    let words = message.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{} …", &words[..end]),
        None => words,
    }
}
