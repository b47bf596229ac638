//! A sequence of tokens and what may follow it.
//!
//! ```no_run
//! use dovetail::{LoadOptions, Model, Sampling, Session, SessionOptions};
//! # fn main() -> dovetail::Result<()> {
//! let model = Model::load("model.gguf".as_ref(), LoadOptions::default())?;
//! let prompt = model.tokenizer().encode("Once upon a time", true, false)?;
//! let mut session = Session::new(model.into(), SessionOptions::default())?;
//! session.prompt(&prompt, &mut |_, _| true)?;
//! for piece in session.generate(&Sampling::default(), 100) {
//!     print!("{}", piece?.text);
//! }
//! # Ok(())
//! # }
//! ```

use crate::draft::{Placement, Setup};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::sample::{Sampler, Sampling};
use crate::spec::{RoundError, RoundStats, Speculation};
use crate::target::{CacheTypes, KvCache, Outputs, Sequence, Target};
use crate::text::Utf8Stream;
use crate::tree::MAX_NODES;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Sizes of a session.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Most tokens of the sequence; 0 for as many as the model was made for.
    pub n_ctx: usize,
    /// Threads at work, at least 1.
    pub threads: usize,
    /// Most tokens of one pass over the prompt.
    pub n_ubatch: usize,
    /// How keys and values are stored.
    pub cache: CacheTypes,
}

impl Default for SessionOptions {
    /// The model's context, the machine's physical cores, passes of 512, a cache of half floats.
    fn default() -> Self {
        let (threads, cache) = (crate::machine::physical_cores(), CacheTypes::default());
        SessionOptions { n_ctx: 0, threads, n_ubatch: 512, cache }
    }
}

/// A piece of generated text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The token; none where a character cut off at the very end becomes U+FFFD.
    pub token: Option<u32>,
    /// What it adds to the text: empty while a character is incomplete.
    pub text: String,
    /// Whether a drafter had guessed it.
    pub guessed: bool,
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The model ended its answer with this token, which is not part of the text.
    End(u32),
    /// As many tokens as were asked for.
    Length,
    /// The context is full.
    Context,
}

/// Counts and times of one prompt and its answer.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Prompt tokens that were run; those still in the cache were not.
    pub prompt_n: usize,
    /// Time for them.
    pub prompt_time: Duration,
    /// Prompt tokens found in the cache.
    pub cached_n: usize,
    /// Tokens generated, the end token not counted.
    pub predicted_n: usize,
    /// Time for them.
    pub predicted_time: Duration,
}

/// One sequence of one model.
pub struct Session {
    target: Target,
    seq: Sequence,
    n_ubatch: usize,
    /// The sequence, and behind it what the target has chosen and nobody has taken yet.
    tokens: Vec<u32>,
    /// Length of the sequence.
    taken: usize,
    /// Length of the sequence that the target's logits continue.
    logits_at: usize,
    speculation: Option<Speculation>,
    /// Length of the sequence that the drafter was told of.
    told: usize,
    /// The drafter that was given up since the last prompt, and why.
    given_up: Option<(RoundStats, Option<Error>)>,
    stats: Stats,
    stop: Option<Stop>,
}

impl Session {
    /// An empty session.
    ///
    /// # Errors
    /// When the context is larger than memory allows, the types of the cache do not fit the model, or
    /// `DOVETAIL_ISA` names what this CPU lacks.
    pub fn new(model: Arc<Model>, options: SessionOptions) -> Result<Session> {
        let SessionOptions { threads, n_ubatch, cache, .. } = options;
        let c = model.config();
        let n_ctx = if options.n_ctx == 0 { c.n_ctx } else { options.n_ctx };
        KvCache::check_memory(c, n_ctx, cache)?;
        // A tree is one pass.
        let rows = n_ubatch.max(MAX_NODES);
        let target = Target::new(model, n_ctx, threads, rows.min(n_ctx))?;
        let seq = target.sequence(cache)?;
        let tokens = Vec::with_capacity(n_ctx);
        let stats = Stats::default();
        Ok(Session {
            target,
            seq,
            n_ubatch: n_ubatch.max(1),
            tokens,
            taken: 0,
            logits_at: 0,
            speculation: None,
            told: 0,
            given_up: None,
            stats,
            stop: None,
        })
    }

    /// Lets a drafter guess what comes next, or nobody, which the text does not show; returns who did.
    ///
    /// # Errors
    /// When the drafter asks for what this model does not have; the session is then as it was.
    pub fn speculate(&mut self, new: Option<Speculation>) -> Result<Option<Speculation>> {
        let taps = new.as_ref().map_or(&[][..], |new| new.drafter().taps());
        self.target.tap(taps)?;
        self.given_up = None;
        self.told = 0;
        Ok(std::mem::replace(&mut self.speculation, new))
    }

    /// What a drafter for this session is opened with; `path` is its file.
    pub fn setup<'a>(&'a self, path: Option<&'a Path>) -> Setup<'a> {
        let (target, n_ctx) = (self.target.model(), self.n_ctx());
        let placement = Placement::default();
        Setup { target, n_ctx, threads: self.target.threads(), path, placement }
    }

    /// Counts and times of guessing since the last prompt.
    pub fn rounds(&self) -> Option<&RoundStats> {
        let given_up = self.given_up.as_ref().map(|(stats, _)| stats);
        self.speculation.as_ref().map(Speculation::stats).or(given_up)
    }

    /// Why the drafter was given up, once: the text goes on without it.
    pub fn take_drafter_error(&mut self) -> Option<Error> {
        self.given_up.as_mut().and_then(|(_, error)| error.take())
    }

    /// What people should know of the drafter, once: it goes on, though not as it was meant to.
    pub fn take_drafter_notice(&mut self) -> Option<String> {
        self.speculation.as_mut().and_then(Speculation::take_notice)
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        self.target.model()
    }

    /// The target, for measuring single passes.
    pub fn target(&mut self) -> &mut Target {
        &mut self.target
    }

    /// Most tokens of the sequence.
    pub fn n_ctx(&self) -> usize {
        self.seq.capacity()
    }

    /// The sequence so far: prompt and answer.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens[..self.taken]
    }

    /// Counts and times since the last prompt.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Why the last generation ended; `None` while it has not, or when the caller stopped taking.
    pub fn stop(&self) -> Option<Stop> {
        self.stop
    }

    /// Makes `prompt` the sequence. What it has in common with the present one is not run again; the
    /// text that follows does not depend on that. `progress` is called with tokens run and tokens to
    /// run; `false` interrupts, the tokens run so far being the sequence then. Returns whether the
    /// whole prompt was run.
    ///
    /// # Errors
    /// When the prompt is empty or leaves no room in the context; the session is then as it was.
    pub fn prompt(
        &mut self,
        prompt: &[u32],
        progress: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<bool> {
        if prompt.is_empty() {
            return Err(Error::Prompt("the prompt is empty; give some text".into()));
        }
        if prompt.len() >= self.n_ctx() {
            let (needed, available) = (prompt.len() + 1, self.n_ctx());
            return Err(Error::Context { needed, available });
        }
        self.tokens.truncate(self.taken);
        let same = self.tokens.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        // The last token is always run: its logits begin the answer.
        let mut kept = same.min(self.seq.len()).min(prompt.len() - 1);
        if self.speculation.as_ref().is_some_and(|s| !s.drafter().taps().is_empty()) {
            // What it learns from the target is not kept anywhere else.
            kept = kept.min(self.told);
        }
        let start = Instant::now();
        self.seq.truncate(kept);
        self.told = self.told.min(kept);
        self.tokens.truncate(kept);
        self.taken = kept;
        self.logits_at = 0;
        if let Some(speculation) = &mut self.speculation {
            speculation.reset_stats();
        }
        self.stop = None;
        self.given_up = None;
        self.stats = Stats { cached_n: kept, ..Stats::default() };
        let to_run = prompt.len() - kept;
        while self.tokens.len() < prompt.len() {
            let chunk = &prompt[self.tokens.len()..];
            let chunk = &chunk[..chunk.len().min(self.n_ubatch)];
            let last = self.tokens.len() + chunk.len() == prompt.len();
            self.target.append(
                &mut self.seq,
                chunk,
                if last { Outputs::Last } else { Outputs::None },
            )?;
            let first = self.tokens.len();
            self.tokens.extend_from_slice(chunk);
            self.taken = self.tokens.len();
            self.commit(first);
            self.stats.prompt_n += chunk.len();
            self.stats.prompt_time = start.elapsed();
            if last {
                self.logits_at = self.tokens.len();
            }
            if !progress(self.stats.prompt_n, to_run) {
                return Ok(self.tokens.len() == prompt.len());
            }
        }
        Ok(true)
    }

    /// Generates up to `n_predict` tokens after the sequence, one at each `next`.
    pub fn generate<'a>(&'a mut self, sampling: &Sampling, n_predict: usize) -> Generate<'a> {
        self.stop = None;
        self.tokens.truncate(self.taken);
        Generate {
            sampler: Sampler::new(sampling.clone()),
            utf8: Utf8Stream::new(),
            left: n_predict,
            ignore_end: false,
            session: self,
        }
    }

    /// Tells the drafter, if there is one, what the target has run since position `first`.
    fn commit(&mut self, first: usize) {
        let Some(speculation) = &mut self.speculation else { return };
        let tokens = &self.tokens[first..self.seq.len()];
        match speculation.commit(&mut self.target, first, tokens) {
            Ok(()) => self.told = self.seq.len(),
            Err(error) => self.give_up(error),
        }
    }

    fn give_up(&mut self, error: Error) {
        let stats = self.speculation.take().map(|speculation| speculation.stats().clone());
        self.target.tap(&[]).expect("no state is one that every model has");
        self.given_up = stats.map(|stats| (stats, Some(error)));
    }

    /// Appends the next token, or with a drafter up to `most` of them, none behind one that `ends` the text.
    fn extend(
        &mut self,
        sampler: &mut Sampler,
        most: usize,
        ends: impl Fn(u32) -> bool,
    ) -> Result<()> {
        let n = self.tokens.len();
        if self.logits_at != n {
            let done = self.seq.len().min(n - 1);
            self.seq.truncate(done);
            self.told = self.told.min(done);
            if let Some(speculation) = self.speculation.as_mut().filter(|_| done == n - 1) {
                match speculation.round(
                    &mut self.target,
                    &mut self.seq,
                    sampler,
                    &mut self.tokens,
                    most,
                    ends,
                ) {
                    Ok(()) => {
                        (self.told, self.logits_at) = (self.seq.len(), 0);
                        return Ok(());
                    }
                    Err(RoundError::Target(error)) => return Err(error),
                    Err(RoundError::Drafter(error)) => self.give_up(error),
                }
                if self.tokens.len() > n {
                    return Ok(());
                }
            }
            let behind = &self.tokens[self.seq.len()..];
            self.target.append(&mut self.seq, behind, Outputs::Last)?;
            self.logits_at = n;
        }
        self.tokens.push(sampler.sample(self.target.logits(0), &self.tokens));
        Ok(())
    }
}

/// Iterator over generated pieces; ends at the model's end token, the length, or a full context.
pub struct Generate<'a> {
    session: &'a mut Session,
    sampler: Sampler,
    utf8: Utf8Stream,
    left: usize,
    ignore_end: bool,
}

impl Generate<'_> {
    /// Goes on past end tokens, which then become pieces without text.
    pub fn ignore_end(mut self, ignore: bool) -> Self {
        self.ignore_end = ignore;
        self
    }

    fn step(&mut self) -> Result<Option<Piece>> {
        let s = &mut *self.session;
        if s.tokens.is_empty() {
            return Err(Error::Prompt("nothing to continue; give a prompt first".into()));
        }
        let room = s.n_ctx() - s.taken;
        if self.left == 0 || room == 0 {
            s.stop = Some(if self.left == 0 { Stop::Length } else { Stop::Context });
            return Ok(None);
        }
        if s.taken == s.tokens.len() {
            let (model, ignore) = (s.target.model().clone(), self.ignore_end);
            let ends = |token| !ignore && model.tokenizer().is_end_of_generation(token);
            s.extend(&mut self.sampler, self.left.min(room), ends)?;
        }
        let token = s.tokens[s.taken];
        let tokenizer = s.target.model().tokenizer();
        if !self.ignore_end && tokenizer.is_end_of_generation(token) {
            s.stop = Some(Stop::End(token));
            return Ok(None);
        }
        let mut text = String::new();
        self.utf8.push(tokenizer.piece_bytes(token), &mut text);
        // The last token of a round is the target's own.
        let guessed = s.taken + 1 < s.tokens.len();
        s.taken += 1;
        self.left -= 1;
        Ok(Some(Piece { token: Some(token), text, guessed }))
    }
}

impl Iterator for Generate<'_> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Result<Piece>> {
        if self.session.stop.is_some() {
            return None;
        }
        let start = Instant::now();
        let piece = self.step().transpose();
        self.session.stats.predicted_time += start.elapsed();
        match &piece {
            Some(Ok(_)) => self.session.stats.predicted_n += 1,
            Some(Err(_)) => self.session.stop = Some(Stop::Length),
            None => {
                // A character cut off at the end of the text becomes U+FFFD.
                let mut text = String::new();
                self.utf8.finish(&mut text);
                if !text.is_empty() {
                    return Some(Ok(Piece { token: None, text, guessed: false }));
                }
            }
        }
        piece
    }
}
