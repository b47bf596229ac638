//! One round of speculation: the trees of some sequences grow, one pass of the target verifies all of them, and each
//! sequence keeps the branch that the target agrees with.

use super::speculation::Speculation;
use super::stream::Stream;
use crate::draft::{DraftJob, RoundContext};
use crate::error::Result;
use crate::infer::{MAX_SEQUENCES, Sequence, Target, Work, WorkRows};
use crate::planner::{Planner, RoundTimes};
use crate::tree::GrowingTree;
use smallvec::SmallVec;
use std::time::{Duration, Instant};

/// One round of one to [`MAX_SEQUENCES`] streams: those that [need one](Stream::needs_round) get at least one token, those
/// that [read](Stream::set_chunk) a chunk of their prompt. Each text is the one that its stream writes alone.
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
    let rows = target.run(&mut work(streams))?; // one pass serves every node and every chunk of a prompt
    clock.verified(rows.len());
    for (i, stream) in streams.iter_mut().enumerate() {
        stream.accept(target, &rows[i]); // the branch that the target agrees with, and one token
        stream.keep(target, drafters, &rows[i])?; // caches compacted, drafter told
        stream.count_time(clock.share(&rows[i]));
    }
    writing(streams).for_each(|stream| planner.accepted(stream.tree(), stream.path()));
    let other = streams.iter().any(|stream| stream.is_reading() || stream.tree().n_forced() > 0);
    planner.end((!other).then(|| clock.times())); // such work teaches the planner nothing
    streams.iter_mut().for_each(|stream| stream.end_round());
    Ok(())
}

/// Starts the planner's round, and the trees of the streams that are written.
fn begin(streams: &mut [&mut Stream], planner: &mut Planner, max_rows: usize) {
    let read: usize = streams.iter().map(|stream| stream.chunk()).sum();
    let n = writing(streams).count().max(1);
    let context = writing(streams).map(|stream| stream.context()).sum::<usize>() / n;
    let drafts = writing(streams).any(|stream| stream.is_drafted());
    planner.begin(n, context, drafts);
    writing(streams).for_each(|stream| stream.start_round(planner, (max_rows - read) / n));
}

/// The streams that are written: all but those that read.
fn writing<'a>(streams: &'a mut [&mut Stream]) -> impl Iterator<Item = &'a mut Stream> {
    streams.iter_mut().map(|stream| &mut **stream).filter(|stream| !stream.is_reading())
}

/// Lets the drafters expand the trees.
fn expand(
    target: &mut Target,
    drafters: &mut [&mut Speculation],
    streams: &mut [&mut Stream],
    planner: &mut Planner,
) {
    let (start, n_vocab) = (Instant::now(), target.model().config().n_vocab);
    writing(streams).for_each(|stream| stream.skip(drafters));
    let mut n = 0;
    for speculation in drafters {
        let jobs = writing(streams).filter_map(|stream| stream.job(speculation));
        let mut jobs: SmallVec<[DraftJob; MAX_SEQUENCES]> = jobs.collect();
        if !jobs.is_empty() {
            let mut round = RoundContext { planner, pool: target.pool() };
            speculation.drafter_mut().expand(&mut jobs, &mut round);
            jobs.iter_mut().for_each(DraftJob::close);
            n += jobs.len() as u32;
        }
    }
    let time = start.elapsed() / n.max(1);
    writing(streams).for_each(|stream| stream.grown(time, n_vocab));
}

/// The trees of the streams that are written.
fn trees<'a>(streams: &'a mut [&mut Stream]) -> SmallVec<[&'a mut GrowingTree; MAX_SEQUENCES]> {
    writing(streams).map(|stream| stream.tree_mut()).collect()
}

/// The target's work for each stream.
fn work<'a>(
    streams: &'a mut [&mut Stream],
) -> SmallVec<[(&'a mut Sequence, Work<'a>); MAX_SEQUENCES]> {
    streams.iter_mut().map(|stream| stream.work()).collect()
}

/// Measures the times of a round.
struct Clock {
    start: Instant,
    draft: Duration,
    verify: Duration,
    /// Rows of the pass.
    rows: usize,
}

impl Clock {
    fn start() -> Clock {
        Clock { start: Instant::now(), draft: Duration::ZERO, verify: Duration::ZERO, rows: 1 }
    }

    /// Records the end of drafting.
    fn drafted(&mut self) {
        self.draft = self.start.elapsed();
    }

    /// Records the end of the target's pass over `rows` rows.
    fn verified(&mut self, rows: usize) {
        (self.verify, self.rows) = (self.start.elapsed() - self.draft, rows);
    }

    /// The share of the pass's time that belongs to these rows.
    fn share(&self, rows: &WorkRows) -> Duration {
        self.verify.mul_f64(rows.rows.len() as f64 / self.rows as f64)
    }

    /// Times of the whole round up to now.
    fn times(&self) -> RoundTimes {
        let [draft, verify, whole] = [self.draft, self.verify, self.start.elapsed()];
        let [draft, verify, whole] = [draft, verify, whole].map(|time| time.as_secs_f64());
        RoundTimes { draft, verify, whole }
    }
}
