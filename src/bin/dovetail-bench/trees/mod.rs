//! Records what a drafter proposes at every position of answers, so that tree sizes can be tried without running
//! anything again.
//!
//! ```text
//! record.rs    the answers and the trees, into a file
//! read.rs      and out of it
//! replay.rs    what they would have taken under a policy and a table of costs
//! compare.rs   several policies side by side
//! counts.rs    acceptance counts of a record
//! ```

mod compare;
mod counts;
mod read;
mod record;
mod replay;

use crate::prompt_options::PromptOptions;
use clap::error::ErrorKind;
use clap::{ArgAction, ArgGroup, ArgMatches, Args, Command, FromArgMatches};
use dovetail::Result;
use dovetail::planner::Policy;
use std::path::PathBuf;

/// Options of `trees`, which has two modes.
pub enum Options {
    /// Answer prompts and write this file.
    Record(Box<PromptOptions>, PathBuf),
    Replay(compare::Options),
    /// Count the draft tokens of a record into this file.
    Count(PathBuf, PathBuf),
}

/// The flags that select the mode.
#[derive(Args)]
struct Modes {
    /// Write the answers and the tree at each of their tokens to this file; the default trees are beam:7,10,64 with
    /// p-min 0
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Read that file instead of a model, and compute the speed of its answers with each --tree, which may be given
    /// several times [default: cost, cast, eagle2:60, eagle2:16 and the best of 30 fixed sizes]
    #[arg(long, value_name = "FILE")]
    #[arg(conflicts_with_all = ["model", "prompts", "limit", "n_predict", "temp", "seed", "ctx_size"])]
    replay: Option<PathBuf>,
    /// With --replay: costs of passes, as calibrate -o json prints them; may be given several times
    #[arg(long, value_name = "FILE", requires = "replay")]
    costs: Vec<PathBuf>,
    /// With --replay, in place of --costs: add acceptance counts to this file, which belongs beside a drafter as
    /// NAME.counts.json
    #[arg(long, value_name = "FILE", requires = "replay", conflicts_with = "costs")]
    counts: Option<PathBuf>,
    /// With --replay: time of a round besides drafting and its pass, as a fraction of a plain pass
    #[arg(long, value_name = "PART", default_value = "0.005", value_parser = part)]
    rest: f64,
}

fn part(text: &str) -> std::result::Result<f64, String> {
    let value = text.parse().ok().filter(|x: &f64| (0.0..=10.0).contains(x));
    value.ok_or_else(|| "give a number from 0 to 10".into())
}

/// Implemented by hand, since --replay needs no other options than --tree and --output.
impl Args for Options {
    fn augment_args(command: Command) -> Command {
        let mode = ArgGroup::new("mode").args(["record", "replay"]).required(true);
        Modes::augment_args(PromptOptions::augment_args(command))
            .mut_arg("model", |arg| arg.required(false).required_unless_present("replay"))
            .mut_arg("prompts", |arg| arg.required(false).required_unless_present("replay"))
            .mut_arg("tree", |arg| arg.action(ArgAction::Append))
            .group(mode)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Options::augment_args(command)
    }
}

impl FromArgMatches for Options {
    fn from_arg_matches(matches: &ArgMatches) -> std::result::Result<Options, clap::Error> {
        Options::from_arg_matches_mut(&mut matches.clone())
    }

    fn from_arg_matches_mut(matches: &mut ArgMatches) -> std::result::Result<Options, clap::Error> {
        let Modes { record, replay, costs, counts, rest } = Modes::from_arg_matches_mut(matches)?;
        if let (Some(record), Some(counts)) = (&replay, counts) {
            return Ok(Options::Count(record.clone(), counts));
        }
        if let Some(record) = replay {
            if costs.is_empty() {
                let what = "--replay takes --costs FILE or --counts FILE";
                return Err(clap::Error::raw(ErrorKind::MissingRequiredArgument, what));
            }
            let policies = matches.remove_many::<Policy>("tree").into_iter().flatten().collect();
            let output = matches.remove_one("output").expect("it has a default");
            return Ok(Options::Replay(compare::Options { record, costs, policies, rest, output }));
        }
        if matches.get_many::<Policy>("tree").is_some_and(|policies| policies.len() > 1) {
            let what = "trees of one size are recorded; give --tree once";
            return Err(clap::Error::raw(ErrorKind::ArgumentConflict, what));
        }
        let path = record.expect("one of both is given");
        Ok(Options::Record(Box::new(PromptOptions::from_arg_matches_mut(matches)?), path))
    }

    fn update_from_arg_matches(
        &mut self,
        matches: &ArgMatches,
    ) -> std::result::Result<(), clap::Error> {
        *self = Options::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Records or replays.
pub fn run(o: &Options) -> Result<()> {
    match o {
        Options::Record(options, path) => record::run(options, path),
        Options::Replay(options) => compare::run(options),
        Options::Count(record, counts) => counts::run(record, counts),
    }
}
