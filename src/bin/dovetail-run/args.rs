//! The flags. Names and defaults are llama.cpp's where it has the same option.
//!
//! Ranges are checked here, so the rest of the program may rely on them. To add a flag: a field, and a row in `LONG` of
//! `parse.rs` if it has several letters after one dash.

use crate::draft_flags::DraftFlags;
use crate::escapes::unescape;
use crate::generate::Generate;
use crate::grammar_flags::GrammarFlags;
use crate::hub_flags::HubFlags;
use crate::log::Log;
use crate::output;
use crate::rope_flags::RopeFlags;
use crate::sampling_flags::SamplingFlags;
use crate::values;
use crate::words;
use clap::Parser;
use dovetail::hub::Repo;
use dovetail::infer::{CacheType, CacheTypes};
use dovetail::{ChatTemplate, Error, Generation, Repack, Result, Sampling, file};
use dovetail::{OpenOptions, Options, SessionOptions};
use std::path::{Path, PathBuf};

/// A chat with a language model, or one answer, on the CPU, with a drafter on the CPU or a GPU.
///
/// On a terminal it opens a chat; with -p, -f or standard input it answers once. The text goes to standard output,
/// everything else to standard error.
#[derive(Debug, Parser)]
#[command(name = "dovetail-run", disable_version_flag = true, max_term_width = 100)]
#[command(args_override_self = true)]
pub struct Args {
    /// The model: a GGUF file, or a name that --list-models shows; by default the model that scripts/setup fetches. Where
    /// -m, DOVETAIL_MODEL or -hf name one, what does not end in .gguf is the prompt
    #[arg(value_name = "MODEL", help_heading = "Model")]
    pub positional: Option<PathBuf>,
    /// The same, as a flag
    #[arg(short, long, value_name = "FILE", env = "DOVETAIL_MODEL", help_heading = "Model")]
    pub model: Option<PathBuf>,
    #[command(flatten)]
    pub hub: HubFlags,
    /// Print the models on the disk and exit: this program's, llama.cpp's, Ollama's, LM Studio's and Hugging Face's
    #[arg(long, help_heading = "Model")]
    pub list_models: bool,
    /// Keep the weights from being swapped out
    #[arg(long, env = "DOVETAIL_MLOCK", value_parser = words::switch, help_heading = "Model")]
    pub mlock: bool,
    /// Hold the weights in memory instead of mapping a file; once loaded, no file is read
    #[arg(long, env = "DOVETAIL_NO_MMAP", value_parser = words::switch, help_heading = "Model")]
    pub no_mmap: bool,
    /// Where weights are packed in the order that the CPU reads fastest: cache, in a file in the cache directory that
    /// the next start finds; memory, at every start; off, nowhere, and a token takes about twice as long; auto, cache
    /// from 256 MiB on if the disk has room, else memory
    #[arg(long, value_name = "HOW", default_value = "auto", env = "DOVETAIL_REPACK")]
    #[arg(help_heading = "Model")]
    repack: Repack,
    /// The same as --repack off [-nr]
    #[arg(long, conflicts_with = "repack", help_heading = "Model")]
    no_repack: bool,

    /// Answer this and exit; the same as -p, behind the model, but backslashes stay as they are
    #[arg(value_name = "PROMPT", conflicts_with_all = ["prompt", "file", "parallel"])]
    #[arg(help_heading = "Prompt")]
    pub words: Vec<String>,
    /// Answer this and exit; what is piped to standard input follows behind an empty line, as behind -f
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true, help_heading = "Prompt")]
    pub prompt: Option<String>,
    /// Answer the text of this file and exit
    #[arg(short, long, value_name = "FILE", conflicts_with = "prompt", help_heading = "Prompt")]
    pub file: Option<PathBuf>,
    /// Answer the prompts of -f, this many at once, from 1 to 16; each answer is the one that its prompt gets alone. A
    /// prompt is a line of JSON, {"prompt": TEXT}, {"turns": [TEXT, …]} or {"messages": [{"role": …, "content": …},
    /// …]}, and so is an answer. Other fields, such as "max_tokens", say how a line is answered, else the flags do. -c is
    /// the context of each [-np]
    #[arg(long, value_name = "N", value_parser = values::parallel, allow_negative_numbers = true)]
    #[arg(conflicts_with = "prompt", help_heading = "Prompt")]
    pub parallel: Option<usize>,
    /// The system message, which tells the model its task [-sys]
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    #[arg(env = "DOVETAIL_SYSTEM_PROMPT", help_heading = "Prompt")]
    pub system_prompt: Option<String>,
    /// Replace \n, \t, \r, \\, \', \" and \xHH in -p, -sys and -r; the default
    #[arg(short, long, overrides_with = "no_escape", help_heading = "Prompt")]
    escape: bool,
    /// Leave backslashes as they are
    #[arg(long, overrides_with = "escape", help_heading = "Prompt")]
    no_escape: bool,
    /// Complete the prompt as it is, without a chat template [-no-cnv]
    #[arg(long, visible_alias = "no-conversation", help_heading = "Prompt")]
    pub raw: bool,
    /// Do not repeat the prompt before the completion (with --raw)
    #[arg(long, help_heading = "Prompt")]
    pub no_display_prompt: bool,

    /// End the chat after one answer [-st]
    #[arg(long, help_heading = "Chat")]
    pub single_turn: bool,
    /// End an answer before this stop text; may be given several times
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true, help_heading = "Chat")]
    pub reverse_prompt: Vec<String>,
    /// Chat template in place of the model's: a name, or the template itself
    #[arg(long, value_name = "NAME|JINJA", env = "DOVETAIL_CHAT_TEMPLATE", help_heading = "Chat")]
    chat_template: Option<String>,
    /// Chat template in place of the model's, from a file
    #[arg(long, value_name = "FILE", conflicts_with = "chat_template", help_heading = "Chat")]
    chat_template_file: Option<PathBuf>,
    /// Neither read nor keep the history of what was typed at the prompt
    #[arg(long, env = "DOVETAIL_NO_HISTORY", value_parser = words::switch, help_heading = "Chat")]
    pub no_history: bool,
    /// On a terminal colour what you type (with --raw the prompt) and accepted draft tokens [-co]
    #[arg(long, env = "DOVETAIL_COLOR", value_parser = words::switch, help_heading = "Chat")]
    pub color: bool,

    /// Number of threads; 0 or less: the physical cores [default: the physical cores]
    #[arg(short, long, value_name = "N", value_parser = words::threads, allow_negative_numbers = true)]
    #[arg(env = "DOVETAIL_THREADS", help_heading = "Threads, context and passes")]
    threads: Option<usize>,
    /// Accepted for compatibility with llama.cpp: prompt and answer run on the same threads [-tb]
    #[arg(long, value_name = "N", value_parser = words::threads, allow_negative_numbers = true)]
    #[arg(help_heading = "Threads, context and passes")]
    threads_batch: Option<usize>,
    /// Context length: tokens of prompt and answers together; 0: as many as the model was trained for and memory holds
    #[arg(short, long, value_name = "N", default_value = "0", value_parser = values::context)]
    #[arg(allow_negative_numbers = true)]
    #[arg(env = "DOVETAIL_CTX_SIZE", help_heading = "Threads, context and passes")]
    pub ctx_size: usize,
    #[command(flatten)]
    rope: RopeFlags,
    /// Most tokens of an answer; less than 0: until the model ends it or the context is full
    #[arg(short = 'n', long, visible_alias = "n-predict", value_name = "N", default_value = "-1")]
    #[arg(value_parser = values::predict, allow_negative_numbers = true)]
    #[arg(env = "DOVETAIL_PREDICT", help_heading = "Threads, context and passes")]
    predict: i64,
    /// Upper bound of --ubatch-size; no other effect
    #[arg(short, long, value_name = "N", default_value = "2048", value_parser = values::batch)]
    #[arg(allow_negative_numbers = true)]
    #[arg(env = "DOVETAIL_BATCH_SIZE", help_heading = "Threads, context and passes")]
    batch_size: usize,
    /// Most prompt tokens that share one pass over the weights; 0: --batch-size [-ub]
    #[arg(long, value_name = "N", default_value = "512", value_parser = values::ubatch)]
    #[arg(allow_negative_numbers = true)]
    #[arg(env = "DOVETAIL_UBATCH_SIZE", help_heading = "Threads, context and passes")]
    ubatch_size: usize,
    /// Type of cached keys: f16 or bf16; q8_0, q5_1 and q4_0 in less memory; f32 in twice [-ctk]
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    #[arg(env = "DOVETAIL_CACHE_TYPE_K", help_heading = "Threads, context and passes")]
    cache_type_k: CacheType,
    /// Type of cached values [-ctv]
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    #[arg(env = "DOVETAIL_CACHE_TYPE_V", help_heading = "Threads, context and passes")]
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
    /// After each answer report what passes cost on this machine, which tree sizes were chosen and why, what they
    /// gained, and whether speculation is worth it
    #[arg(long, env = "DOVETAIL_EXPLAIN", value_parser = words::switch, help_heading = "Speculation")]
    pub explain: bool,
    /// Accepted for compatibility with llama.cpp: the model runs on the CPU [-ngl]
    #[arg(long, visible_alias = "n-gpu-layers", value_name = "N", allow_negative_numbers = true)]
    #[arg(help_heading = "Devices")]
    gpu_layers: Option<String>,
    /// Accepted for compatibility with llama.cpp: trees of any size are verified
    #[arg(long, visible_alias = "draft-min", value_name = "N", allow_negative_numbers = true)]
    #[arg(help_heading = "Speculation")]
    spec_draft_n_min: Option<i64>,
    /// Print the devices and exit
    #[arg(long, help_heading = "Devices")]
    pub list_devices: bool,

    /// Report more on standard error: seed, sizes, timings
    #[arg(short, long, env = "DOVETAIL_VERBOSE", value_parser = words::switch, help_heading = "Reports")]
    pub verbose: bool,
    /// Append all messages on standard error, and those of -v, to a file
    #[arg(long, value_name = "FILE", env = "DOVETAIL_LOG_FILE", help_heading = "Reports")]
    pub log_file: Option<PathBuf>,
    /// Write statistics of the last answer to a file, as JSON
    #[arg(long, value_name = "FILE", env = "DOVETAIL_STATS_JSON", help_heading = "Reports")]
    pub stats_json: Option<PathBuf>,
    /// Print the version and the build and exit
    #[arg(short = 'V', long, help_heading = "Reports")]
    pub version: bool,
    /// Print the man page, or completions for a shell, and exit
    #[arg(long, value_name = "WHAT", help_heading = "Reports")]
    pub generate: Option<Generate>,
    /// A line about each flag of llama.cpp's that was set aside
    #[arg(skip)]
    pub without_effect: Vec<String>,
}

/// The flag of the field `stats_json`.
pub const STATS_JSON: &str = "--stats-json";

impl Args {
    /// Checks what clap cannot, and notes flags without effect.
    ///
    /// # Errors
    /// If something is asked for that this program does not do or does not have.
    pub fn check(&self, log: &Log) -> Result<()> {
        self.without_effect.iter().for_each(|line| log.note(line));
        if self.gpu_layers.is_some() {
            log.note("-ngl has no effect: the model runs on the CPU");
        }
        self.drafting.check()?;
        if self.spec_draft_n_min.is_some_and(|n| n > 0) {
            log.note("--draft-min has no effect: trees of any size are verified");
        }
        match &self.stats_json {
            Some(_) if self.parallel.is_some() => {
                log.note("--stats-json has no effect: --parallel reports on standard error");
            }
            Some(path) => output::check(STATS_JSON, path)?,
            None => {}
        }
        if self.threads_batch.is_some_and(|n| n != self.threads()) {
            let n = self.threads();
            log.note(&format!("-tb has no effect: the prompt too runs on {n} threads"));
        }
        Ok(())
    }

    /// Number of threads.
    fn threads(&self) -> usize {
        self.threads.unwrap_or_else(dovetail::machine::physical_cores)
    }

    /// Options for opening the model.
    pub fn options(&self) -> Options {
        let session = SessionOptions {
            n_ctx: self.ctx_size,
            threads: self.threads(),
            n_ubatch: self.ubatch_size.min(self.batch_size),
            cache: CacheTypes { keys: self.cache_type_k, values: self.cache_type_v },
        };
        Options {
            open: OpenOptions { no_mmap: self.no_mmap, mlock: self.mlock },
            repack: if self.no_repack { Repack::Off } else { self.repack },
            rope: self.rope.options(),
            session,
            speculation: self.drafting.options(),
            explain: self.explain,
            ..Options::default()
        }
    }

    /// Most tokens of an answer.
    pub fn n_predict(&self) -> usize {
        usize::try_from(self.predict).unwrap_or(usize::MAX)
    }

    /// How an answer is generated.
    pub fn generation(&self, sampling: &Sampling) -> Generation {
        Generation {
            sampling: sampling.clone(),
            n_predict: self.n_predict(),
            ignore_end: self.sampling.ignore_eos,
            stop: self.reverse_prompt.clone(),
            ..Generation::default()
        }
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

    /// Replaces escapes, unless they stay as they are.
    pub fn unescape(&mut self) {
        if !self.no_escape {
            let texts = self.prompt.iter_mut().chain(&mut self.system_prompt);
            for text in texts.chain(&mut self.reverse_prompt) {
                *text = unescape(text);
            }
        }
        self.reverse_prompt.retain(|text| !text.is_empty());
    }
}

/// Reads a whole file as text.
///
/// # Errors
/// If it cannot be read, or is not UTF-8.
pub fn read_text(path: &Path) -> Result<String> {
    let bytes = file::read(path).map_err(|source| Error::Io { path: path.into(), source })?;
    file::text(bytes).map_err(|error| not_utf8(&path.display().to_string(), &error))
}

/// The error of a text that is not UTF-8.
pub fn not_utf8(name: &str, error: &std::string::FromUtf8Error) -> Error {
    let at = error.utf8_error().valid_up_to();
    Error::Invalid(format!("{name}: byte {at} is not UTF-8; convert it to UTF-8 text"))
}
