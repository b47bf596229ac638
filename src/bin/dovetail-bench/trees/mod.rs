//! What a drafter proposes at every position of answers, so that sizes of trees can be tried without
//! running anything again.
//!
//! ```text
//! record.rs   the answers and the trees, into a file
//! ```

mod record;

use crate::asking::Asking;
use clap::Args;
use dovetail::Result;
use std::path::PathBuf;

/// Options of `trees`.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    asking: Asking,
    /// Write the answers and the tree at each of their tokens into this file; trees are
    /// beam:7,10,64 with p-min 0 if nothing else is asked for
    #[arg(long, value_name = "FILE")]
    record: PathBuf,
}

/// Answers every prompt and records.
pub fn run(o: &Options) -> Result<()> {
    record::run(&o.asking, &o.record)
}
