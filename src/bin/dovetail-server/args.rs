//! The flags. Names, defaults and variables of the environment are those of llama.cpp's server where it has the same one.

use crate::argv;
use crate::draft_flags::DraftFlags;
use crate::embedding::PoolingFlag;
use crate::grammar_flags::GrammarFlags;
use crate::hub_flags::HubFlags;
use crate::rope_flags::RopeFlags;
use crate::sampling_flags::SamplingFlags;
use crate::{mistake, values, words};
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser};
use dovetail::hub::Repo;
use dovetail::infer::{CacheType, CacheTypes};
use dovetail::{ChatTemplate, Error, OpenOptions, Options, Repack, Result, SessionOptions, file};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A server for a language model on the CPU, with a drafter on the CPU or a GPU, behind the interfaces of OpenAI,
/// Anthropic, Ollama and llama.cpp's server.
#[derive(Debug, Parser)]
#[command(name = "dovetail-server", version, max_term_width = 100)]
#[command(args_override_self = true)]
pub struct Args {
    /// The model: a GGUF file, or a name that dovetail-run --list-models shows
    #[arg(value_name = "MODEL", help_heading = "Model")]
    positional: Option<PathBuf>,
    /// The same, as a flag
    #[arg(short, long, value_name = "FILE", env = "LLAMA_ARG_MODEL", help_heading = "Model")]
    model: Option<PathBuf>,
    #[command(flatten)]
    pub hub: HubFlags,
    /// The name under which clients see the model [default: its file's name]
    #[arg(short, long, value_name = "NAME", env = "LLAMA_ARG_ALIAS", help_heading = "Model")]
    pub alias: Option<String>,
    /// Keep the weights from being swapped out
    #[arg(long, env = "LLAMA_ARG_MLOCK", value_parser = words::switch, help_heading = "Model")]
    mlock: bool,
    /// Hold the weights in memory instead of mapping a file
    #[arg(long, env = "LLAMA_ARG_NO_MMAP", value_parser = words::switch, help_heading = "Model")]
    no_mmap: bool,
    /// Where weights are packed: auto, cache, memory or off, as in dovetail-run
    #[arg(long, value_name = "HOW", default_value = "auto", help_heading = "Model")]
    repack: Repack,
    /// Chat template in place of the model's: a name, or the template itself
    #[arg(
        long,
        value_name = "NAME|JINJA",
        env = "LLAMA_ARG_CHAT_TEMPLATE",
        help_heading = "Model"
    )]
    chat_template: Option<String>,
    /// Chat template in place of the model's, from a file
    #[arg(long, value_name = "FILE", conflicts_with = "chat_template", help_heading = "Model")]
    #[arg(env = "LLAMA_ARG_CHAT_TEMPLATE_FILE")]
    chat_template_file: Option<PathBuf>,

    /// The address to listen at; 0.0.0.0 for all of this machine's
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1", env = "LLAMA_ARG_HOST")]
    #[arg(help_heading = "Server")]
    pub host: String,
    /// The port to listen at; 0 for any that is free, which is printed
    #[arg(long, value_name = "PORT", default_value = "8080", env = "LLAMA_ARG_PORT")]
    #[arg(help_heading = "Server")]
    pub port: u16,
    /// How many requests are answered at once, from 1 to 16; others wait in order [-np]
    #[arg(long, value_name = "N", default_value = "4", value_parser = values::parallel)]
    #[arg(allow_negative_numbers = true, env = "LLAMA_ARG_N_PARALLEL", help_heading = "Server")]
    pub parallel: usize,
    /// How many requests may wait; a further one is refused with status 429
    #[arg(long, value_name = "N", default_value = "64", help_heading = "Server")]
    #[arg(value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=65536))]
    pub queue: usize,
    /// A key that requests must carry; several are separated by commas
    #[arg(long, value_name = "KEY", env = "LLAMA_API_KEY", hide_env_values = true)]
    #[arg(value_delimiter = ',', help_heading = "Server")]
    api_key: Vec<String>,
    /// A file of such keys, one a line
    #[arg(long, value_name = "FILE", env = "LLAMA_ARG_API_KEY_FILE", help_heading = "Server")]
    api_key_file: Option<PathBuf>,
    /// How the hidden states of a text's tokens become its embedding: their mean, or the one of the last token
    /// [default: as the model's file says, else last]
    #[arg(long, value_name = "HOW", env = "LLAMA_ARG_POOLING", help_heading = "Server")]
    pub pooling: Option<PoolingFlag>,
    /// Seconds within which the body of a request has to arrive, and its head, which has 30 at most; a client that reads
    /// nothing of its answer for as long as that is given up [-to]
    #[arg(long, value_name = "SECONDS", default_value = "600", env = "LLAMA_ARG_TIMEOUT")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..), help_heading = "Server")]
    timeout: u32,
    /// Seconds that requests may still take after SIGTERM or Ctrl-C
    #[arg(long, value_name = "SECONDS", default_value = "10", help_heading = "Server")]
    grace: u32,

    /// Number of threads; 0 or less: the physical cores [default: the physical cores]
    #[arg(short, long, value_name = "N", value_parser = words::threads, allow_negative_numbers = true)]
    #[arg(env = "LLAMA_ARG_THREADS", help_heading = "Threads, context and passes")]
    threads: Option<usize>,
    /// Context length of all slots together, in tokens: each of the --parallel slots has an equal part of it, for the
    /// prompt and the answer of its request; 0: each has as many as the model was trained for and memory holds
    #[arg(short, long, value_name = "N", default_value = "0", value_parser = values::context)]
    #[arg(allow_negative_numbers = true)]
    #[arg(env = "LLAMA_ARG_CTX_SIZE", help_heading = "Threads, context and passes")]
    ctx_size: usize,
    /// Memory for sequences that no slot holds any more, in MiB: a prompt that begins as one of them did is not read anew
    #[arg(long, visible_alias = "cram", value_name = "MIB", default_value_t = 8192)]
    #[arg(env = "LLAMA_ARG_CACHE_RAM", help_heading = "Threads, context and passes")]
    pub cache_ram: usize,
    #[command(flatten)]
    rope: RopeFlags,
    /// Most tokens of an answer, unless its request says otherwise; less than 0: until the model ends it or the context
    /// is full
    #[arg(short = 'n', long, visible_alias = "n-predict", value_name = "N", default_value = "-1")]
    #[arg(value_parser = values::predict, allow_negative_numbers = true)]
    #[arg(env = "LLAMA_ARG_N_PREDICT", help_heading = "Threads, context and passes")]
    predict: i64,
    /// Upper bound of --ubatch-size; no other effect
    #[arg(short, long, value_name = "N", default_value = "2048", value_parser = values::batch)]
    #[arg(allow_negative_numbers = true)]
    #[arg(env = "LLAMA_ARG_BATCH", help_heading = "Threads, context and passes")]
    batch_size: usize,
    /// Most prompt tokens that share one pass over the weights; 0: --batch-size [-ub]
    #[arg(long, value_name = "N", default_value = "512", value_parser = values::ubatch)]
    #[arg(allow_negative_numbers = true)]
    #[arg(env = "LLAMA_ARG_UBATCH", help_heading = "Threads, context and passes")]
    ubatch_size: usize,
    /// Type of cached keys: f16 or bf16; q8_0, q5_1 and q4_0 in less memory; f32 in twice [-ctk]
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    #[arg(env = "LLAMA_ARG_CACHE_TYPE_K", help_heading = "Threads, context and passes")]
    cache_type_k: CacheType,
    /// Type of cached values [-ctv]
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    #[arg(env = "LLAMA_ARG_CACHE_TYPE_V", help_heading = "Threads, context and passes")]
    cache_type_v: CacheType,

    #[command(flatten)]
    pub sampling: SamplingFlags,
    #[command(flatten)]
    pub grammar: GrammarFlags,
    #[command(flatten)]
    pub drafting: DraftFlags,
    /// Fetch the drafter from this repository, as -hf does the model [-hfd, -hfrd]
    #[arg(long, value_name = "USER/REPO[:QUANT]", help_heading = "Speculation")]
    pub hf_repo_draft: Option<Repo>,

    /// Report more on standard error
    #[arg(short, long, help_heading = "Reports")]
    pub verbose: bool,
}

/// Flags of several letters after one dash, and their long names.
const LONG: &[(&str, &str)] = &[
    ("-ctk", "--cache-type-k"),
    ("-ctv", "--cache-type-v"),
    ("-hf", "--hf-repo"),
    ("-hfd", "--hf-repo-draft"),
    ("-hff", "--hf-file"),
    ("-hfr", "--hf-repo"),
    ("-hfrd", "--hf-repo-draft"),
    ("-hft", "--hf-token"),
    ("-md", "--model-draft"),
    ("-ngld", "--gpu-layers-draft"),
    ("-np", "--parallel"),
    ("-to", "--timeout"),
    ("-ub", "--ubatch-size"),
];

/// The request of the command line.
pub enum Parsed {
    /// Serve.
    Run(Box<Args>),
    /// Print this text and exit.
    Help(String),
    /// A mistake, in one line.
    Wrong(String),
}

/// Reads the command line and the environment.
pub fn parse(argv: impl IntoIterator<Item = OsString>) -> Parsed {
    let command = Args::command().mut_args(|arg| arg.hide_env_values(true));
    // llama-server's name; the flag is one of several programs.
    let command = command.mut_arg("top_k", |arg| arg.env("LLAMA_ARG_TOP_K"));
    let argv = match argv::rewrite(argv, &command, LONG) {
        Ok(argv) => argv,
        Err(line) => return Parsed::Wrong(line),
    };
    let matches = match command.try_get_matches_from(argv) {
        Ok(matches) => matches,
        Err(error) if !error.use_stderr() => return Parsed::Help(error.render().to_string()),
        Err(error) => return Parsed::Wrong(mistake::one_line(&error.render().to_string())),
    };
    match Args::from_arg_matches(&matches) {
        Ok(args) => match named_twice(&matches) {
            Some(line) => Parsed::Wrong(line),
            None => Parsed::Run(Box::new(args)),
        },
        Err(error) => Parsed::Wrong(mistake::one_line(&error.render().to_string())),
    }
}

/// The mistake of naming two models or two drafters. A variable of the environment counts where nothing else names one.
fn named_twice(matches: &ArgMatches) -> Option<String> {
    let typed = |id: &&str| matches.value_source(id) == Some(ValueSource::CommandLine);
    let groups: [(&str, &[&str], &str); 2] = [
        ("models", &["positional", "model", "hf_repo"], "MODEL, -m and -hf"),
        ("drafters", &["model_draft", "hf_repo_draft"], "-md and -hfd"),
    ];
    let twice =
        groups.into_iter().find(|(_, ids, _)| ids.iter().filter(|id| typed(id)).count() > 1);
    twice.map(|(what, _, flags)| format!("two {what} are named; give one of {flags}"))
}

impl Args {
    /// The model that was named.
    pub fn model(&self) -> Option<&Path> {
        self.positional.as_deref().or(self.model.as_deref())
    }

    /// Options for opening the model.
    pub fn options(&self) -> Options {
        let session = SessionOptions {
            n_ctx: self.slot_context(),
            threads: self.threads.unwrap_or_else(dovetail::machine::physical_cores),
            n_ubatch: self.ubatch_size.min(self.batch_size),
            cache: CacheTypes { keys: self.cache_type_k, values: self.cache_type_v },
        };
        Options {
            open: OpenOptions { no_mmap: self.no_mmap, mlock: self.mlock },
            repack: self.repack,
            rope: self.rope.options(),
            session,
            speculation: self.drafting.options(),
            ..Options::default()
        }
    }

    /// Context length of a slot; 0 for the model's.
    fn slot_context(&self) -> usize {
        match self.ctx_size {
            0 => 0,
            all => (all / self.parallel).max(1),
        }
    }

    /// Most tokens of an answer.
    pub fn n_predict(&self) -> usize {
        usize::try_from(self.predict).unwrap_or(usize::MAX)
    }

    /// How long the body of a request may take.
    pub fn body_timeout(&self) -> Duration {
        Duration::from_secs(u64::from(self.timeout))
    }

    /// How long requests may take after SIGTERM.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(u64::from(self.grace))
    }

    /// The keys of which requests must carry one; none if they need no key.
    ///
    /// # Errors
    /// If the file of keys cannot be read, is not text or has no key.
    pub fn keys(&self) -> Result<Vec<String>> {
        let mut keys: Vec<String> = self.api_key.iter().map(|key| key.trim().into()).collect();
        if let Some(path) = &self.api_key_file {
            let text = read_text(path)?;
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            let before = keys.len();
            keys.extend(lines.map(str::to_owned));
            if keys.len() == before {
                let what = format!("{}: there is no key in it; write one a line", path.display());
                return Err(Error::Invalid(what));
            }
        }
        keys.retain(|key| !key.is_empty());
        Ok(keys)
    }

    /// The chat template in place of the model's, if given.
    ///
    /// # Errors
    /// If it cannot be read or parsed, or its name is unknown.
    pub fn template(&self) -> Result<Option<ChatTemplate>> {
        if let Some(path) = &self.chat_template_file {
            return ChatTemplate::from_source(&read_text(path)?).map(Some);
        }
        self.chat_template.as_deref().map(ChatTemplate::given).transpose()
    }
}

/// Reads a whole file as text.
fn read_text(path: &Path) -> Result<String> {
    let bytes = file::read(path).map_err(|source| Error::Io { path: path.into(), source })?;
    file::text(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let path = path.display();
        Error::Invalid(format!("{path}: byte {at} is not UTF-8; convert it to UTF-8 text"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(typed: &str) -> std::result::Result<Args, String> {
        let argv = std::iter::once("dovetail-server").chain(typed.split_whitespace());
        match parse(argv.map(OsString::from)) {
            Parsed::Run(args) => Ok(*args),
            Parsed::Help(text) | Parsed::Wrong(text) => Err(text),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_slot_has_its_part_of_the_context() {
        let context = |typed| run(typed).unwrap().options().session.n_ctx;
        assert_eq!(context("m.gguf -c 4096 -np 4"), 1024);
        assert_eq!(context("m.gguf -c 4096 -np 1"), 4096);
        assert_eq!(context("m.gguf -c 3 -np 4"), 1);
        assert_eq!(context("m.gguf -np 4"), 0);
    }

    #[test]
    fn keys_come_from_the_flag_and_from_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().display();
        let keys = |typed: &str| run(typed).unwrap().keys();
        let both = format!("m.gguf --api-key a,b --api-key-file {path}");
        let empty = keys(&both).unwrap_err().to_string();
        assert!(empty.contains("there is no key in it"), "{empty}");
        std::fs::write(file.path(), "\n c \nd\n").unwrap();
        assert_eq!(keys(&both).unwrap(), ["a", "b", "c", "d"]);
        assert!(keys("m.gguf").unwrap().is_empty());
    }

    #[test]
    fn mistakes_are_one_line() {
        for (typed, part) in [
            ("a.gguf -m b.gguf", "two models are named; give one of MODEL, -m and -hf"),
            ("a.gguf -hf a/b", "two models are named"),
            ("a.gguf -md b.gguf -hfd a/b", "two drafters are named; give one of -md and -hfd"),
            ("m.gguf -np 17", "from 1 to 16"),
            ("m.gguf --queue 0", "not in 1..=65536"),
            ("m.gguf --timeout 0", "not in 1.."),
            ("m.gguf --port 70000", "65535"),
            ("m.gguf -mx", "is no flag of this program"),
        ] {
            let line = run(typed).unwrap_err();
            assert!(line.contains(part) && !line.contains('\n'), "{typed}: {line}");
        }
    }
}
