//! One round of speculation: the trees of some sequences grow, one pass of the target verifies all of them, and each
//! sequence keeps the branch that the target agrees with.

use super::speculation::Speculation;
use super::stream::Stream;
use crate::draft::{DraftJob, RoundContext};
use crate::error::Result;
use crate::infer::{MAX_SEQUENCES, Sequence, Target};
use crate::planner::{Planner, RoundTimes};
use crate::tree::{GrowingTree, Tree};
use smallvec::SmallVec;
use std::time::{Duration, Instant};

/// Appends at least one token to each of one to [`MAX_SEQUENCES`] streams, all of which
/// [need one](Stream::needs_round). Each text is the one that its stream writes alone.
///
/// # Errors
/// Those of the target; the streams are then as they were.
pub(crate) fn round(
    target: &mut Target,
    drafters: &mut [&mut Speculation],
    streams: &mut [&mut Stream],
    planner: &mut Planner,
) -> Result<()> {
    let mut clock = Clock::start();
    begin(streams, planner, target.max_rows()); // no tree at all is a size like others
    expand(target, drafters, streams, planner); // trees grow side by side, each level priced
    planner.choose(&mut trees(streams)); // the sizes with the most tokens a second
    clock.drafted();
    target.verify_batch(&mut work(streams))?; // one pass over the weights serves every node
    clock.verified();
    let mut rows = 0;
    for stream in streams.iter_mut() {
        stream.accept(target, rows); // the branch that the target agrees with, and one token
        stream.keep(target, drafters, rows)?; // caches compacted, drafter told
        planner.accepted(stream.tree(), stream.path());
        rows += stream.tree().tree().len();
    }
    clock.share_out(streams, rows);
    planner.end(Some(clock.times()));
    Ok(())
}

/// Starts the planner's round, and the trees.
fn begin(streams: &mut [&mut Stream], planner: &mut Planner, max_rows: usize) {
    let n = streams.len().max(1);
    let context = streams.iter().map(|stream| stream.context()).sum::<usize>() / n;
    let drafts = streams.iter().any(|stream| stream.is_drafted());
    planner.begin(n, context, drafts);
    streams.iter_mut().for_each(|stream| stream.start_round(planner, max_rows / n));
}

/// Lets the drafters grow the trees.
fn expand(
    target: &mut Target,
    drafters: &mut [&mut Speculation],
    streams: &mut [&mut Stream],
    planner: &mut Planner,
) {
    let (start, n_vocab) = (Instant::now(), target.model().config().n_vocab);
    streams.iter_mut().for_each(|stream| stream.skip(drafters));
    let mut n = 0;
    for speculation in drafters {
        let jobs = streams.iter_mut().filter_map(|stream| stream.job(speculation));
        let mut jobs: SmallVec<[DraftJob; MAX_SEQUENCES]> = jobs.collect();
        if !jobs.is_empty() {
            let mut round = RoundContext { planner, pool: target.pool() };
            speculation.drafter_mut().expand(&mut jobs, &mut round);
            jobs.iter_mut().for_each(|job| job.tree.close());
            n += jobs.len() as u32;
        }
    }
    let time = start.elapsed() / n.max(1);
    streams.iter_mut().for_each(|stream| stream.grown(time, n_vocab));
}

/// The trees of all streams.
fn trees<'a>(streams: &'a mut [&mut Stream]) -> SmallVec<[&'a mut GrowingTree; MAX_SEQUENCES]> {
    streams.iter_mut().map(|stream| stream.tree_mut()).collect()
}

/// What the target is to run.
fn work<'a>(
    streams: &'a mut [&mut Stream],
) -> SmallVec<[(&'a mut Sequence, &'a Tree, usize); MAX_SEQUENCES]> {
    let work = streams.iter_mut().map(|stream| stream.sequence_and_tree());
    work.map(|(sequence, tree)| (sequence, tree, 0)).collect()
}

/// Times a round.
struct Clock {
    start: Instant,
    draft: Duration,
    verify: Duration,
}

impl Clock {
    fn start() -> Clock {
        Clock { start: Instant::now(), draft: Duration::ZERO, verify: Duration::ZERO }
    }

    /// Drafting has ended.
    fn drafted(&mut self) {
        self.draft = self.start.elapsed();
    }

    /// The target's pass has ended.
    fn verified(&mut self) {
        self.verify = self.start.elapsed() - self.draft;
    }

    /// Counts the time of the pass for the streams, by their rows of it.
    fn share_out(&self, streams: &mut [&mut Stream], rows: usize) {
        for stream in streams {
            let nodes = stream.tree().tree().len() as u32;
            stream.count_verify_time(self.verify / rows as u32 * nodes);
        }
    }

    /// Of the whole round, up to now.
    fn times(&self) -> RoundTimes {
        let [draft, verify, whole] = [self.draft, self.verify, self.start.elapsed()];
        let [draft, verify, whole] = [draft, verify, whole].map(|time| time.as_secs_f64());
        RoundTimes { draft, verify, whole }
    }
}
