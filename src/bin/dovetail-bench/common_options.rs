//! Options that several commands have, and opening a model with them.

use crate::hub_flags::HubFlags;
use crate::words;
use clap::{Args, ValueEnum};
use dovetail::draft::SpecType;
use dovetail::infer::{CacheType, CacheTypes};
use dovetail::printable::Printable;
use dovetail::speculate::SpecOptions;
use dovetail::{
    Engine, Level, Notice, Observer, Options, Repack, Result, Session, SessionOptions, Setting,
};
use std::path::PathBuf;

/// Options that several commands have.
#[derive(Args)]
pub struct CommonOptions {
    /// The model: a GGUF file, or a name that dovetail-run --list-models shows
    #[arg(short, long, value_name = "FILE", required_unless_present = "hf_repo")]
    #[arg(conflicts_with = "hf_repo")]
    model: Option<PathBuf>,
    #[command(flatten)]
    hub: HubFlags,
    /// Number of threads [default: the physical cores]
    #[arg(short, long, value_parser = words::threads, allow_negative_numbers = true)]
    pub threads: Option<usize>,
    /// Where weights are packed: auto, cache, memory or off, as in dovetail-run
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub repack: Repack,
    /// Type of cached keys: f16, bf16, q8_0, q5_1, q4_0 or f32
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    pub cache_type_k: CacheType,
    /// Type of cached values: f16, bf16, q8_0, q5_1, q4_0 or f32
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    pub cache_type_v: CacheType,
    /// Output format
    #[arg(short, long, value_enum, default_value = "md")]
    pub output: Format,
}

/// How results are printed.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A Markdown table
    Md,
    /// JSON
    Json,
}

impl CommonOptions {
    /// The model's file, fetched if need be.
    pub fn model(&self) -> Result<PathBuf> {
        let note = &mut |line: &str| eprintln!("{}", Printable(line));
        let model = self.hub.model(self.model.as_deref(), note)?;
        Ok(model.expect("one of the flags is required").path)
    }

    pub fn threads(&self) -> usize {
        self.threads.unwrap_or_else(dovetail::machine::physical_cores)
    }

    /// Options for opening the model without a drafter.
    pub fn options(&self, n_ctx: usize, n_ubatch: usize) -> Options {
        let (threads, cache) = (self.threads(), self.cache());
        Options {
            repack: self.repack,
            session: SessionOptions { n_ctx, threads, n_ubatch, cache },
            speculation: SpecOptions { kind: SpecType::None, ..SpecOptions::default() },
            ..Options::default()
        }
    }

    pub fn cache(&self) -> CacheTypes {
        CacheTypes { keys: self.cache_type_k, values: self.cache_type_v }
    }

    pub fn session(&self, n_ctx: usize, n_ubatch: usize) -> Result<Session> {
        let options = self.options(n_ctx, n_ubatch);
        options.session(options.model(&self.model()?, &mut LogObserver)?, &mut LogObserver)
    }

    pub fn engine(&self, n_ctx: usize, slots: usize) -> Result<Engine> {
        let options = self.options(n_ctx, 512);
        options.engine(options.model(&self.model()?, &mut LogObserver)?, slots, &mut LogObserver)
    }
}

/// Prints lines that everyone should read.
pub struct LogObserver;

impl Observer for LogObserver {
    fn notice(&mut self, notice: &Notice) {
        if let (Level::Note, lines) = notice.lines(&words::FlagNames) {
            eprintln!("{lines}");
        }
    }
}

/// Parses a length of at least one.
pub fn at_least_one() -> clap::builder::RangedU64ValueParser<usize> {
    clap::builder::RangedU64ValueParser::new().range(1..)
}

/// Parses a temperature.
pub fn temperature(text: &str) -> std::result::Result<f32, String> {
    words::number(Setting::Temperature, text)
}
