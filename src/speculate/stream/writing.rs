//! The answer that is written behind a sequence, token by token.

use super::Stream;
use crate::draft::constrained::{Allowed, Constrained};
use crate::error::Result;
use crate::infer::Logits;
use crate::sample::{Sampler, Sampling};
use crate::speculate::generation::{Generation, Piece, Stop};
use crate::text::Tokenizer;

impl Stream {
    /// Starts a generation.
    ///
    /// # Errors
    /// If a number of the sampling is out of range, or a stop string cannot be tokenized.
    pub fn generate(&mut self, what: &Generation, tokenizer: &Tokenizer) -> Result<()> {
        what.sampling.check()?;
        self.output.begin(what, tokenizer)?;
        self.tokens.truncate(self.taken);
        let mut sampling = what.sampling.clone();
        if what.ignore_end {
            forbid_ends(&mut sampling, tokenizer);
        }
        self.sampler = Sampler::new(sampling);
        let constraint = what.constraint.clone();
        self.constrained = constraint.map(|constraint| Constrained::new(constraint, self.taken));
        (self.n_left, self.stop, self.ended) = (what.n_predict, None, None);
        self.drafting = what.drafting;
        Ok(())
    }

    /// Forbids end tokens for the rest of the generation.
    pub fn ignore_end(&mut self, tokenizer: &Tokenizer) {
        let mut sampling = self.sampler.sampling().clone();
        forbid_ends(&mut sampling, tokenizer);
        self.sampler = Sampler::new(sampling);
    }

    /// The next piece. `None` if it needs a round, or if the text has ended; then [`Stream::stop`] gives the reason.
    pub fn take(&mut self, tokenizer: &Tokenizer) -> Option<Piece> {
        if self.stop.is_some() {
            return None;
        }
        let next = self.tokens.get(self.taken).copied();
        self.stop = match next {
            _ if self.n_left == 0 => Some(Stop::Length),
            _ if self.taken == self.seq.capacity() => Some(Stop::Context),
            Some(token) => self.output.ends(tokenizer, token),
            None => self.ended,
        };
        if self.stop.is_some() {
            return self.output.rest();
        }
        let token = next?;
        self.taken += 1;
        self.n_left -= 1;
        self.stats.predicted_n += 1;
        // The last token of a round is the target's own, not a drafted one.
        let drafted = self.taken < self.tokens.len();
        self.show_stats();
        let (piece, stopped) = self.output.piece(tokenizer, token, drafted);
        self.stop = stopped;
        Some(piece)
    }

    /// Whether the next piece needs a round.
    pub fn needs_round(&self) -> bool {
        self.n_left > 0
            && self.stop.is_none()
            && self.ended.is_none()
            && self.taken == self.tokens.len()
            && self.unread() == 0
    }

    /// Samples the first token behind a prompt that was read; its logits are there already.
    pub fn sample_pending(&mut self, tokenizer: &Tokenizer) {
        if self.needs_round()
            && let Some(logits) = self.pending.get()
        {
            if !logits.are_numbers() {
                self.ended = Some(Stop::NotANumber);
                return;
            }
            let Stream { sampler, constrained, tokens, .. } = self;
            let token = choose_token(sampler, constrained.as_mut(), logits, tokens);
            if self.constrained.as_ref().is_some_and(|c| c.exhausted_at().is_some()) {
                self.ended = Some(Stop::Constraint);
                return;
            }
            if let Some(constrained) = &mut self.constrained {
                // The first token is no part of the answer's time, so its mask is not either.
                constrained.take_time();
            }
            self.output.chosen(token, logits);
            self.tokens.push(token);
            self.pending.clear();
            self.end_if_complete(tokenizer);
        }
    }

    /// Ends the text behind the chosen tokens if a constraint allows no others: that needs no pass of the target.
    pub(super) fn end_if_complete(&mut self, tokenizer: &Tokenizer) {
        let Stream { constrained, tokens, output, .. } = self;
        let Some(constrained) = constrained else { return };
        let has_ended = tokens.last().is_some_and(|last| output.ends(tokenizer, *last).is_some());
        if !has_ended && let Some(end) = constrained.end(tokens) {
            self.ended = output.ends(tokenizer, end);
        }
    }
}

/// The token behind `history`, of those that a constraint allows.
pub(super) fn choose_token(
    sampler: &mut Sampler,
    constrained: Option<&mut Constrained>,
    logits: Logits,
    history: &[u32],
) -> u32 {
    let Some(constrained) = constrained else { return sampler.sample(logits, history) };
    let token = match constrained.next(history) {
        Some(Allowed::One(token)) => Some(token),
        Some(Allowed::Some) => {
            sampler.sample_asking(logits, history, |token| constrained.allows(token))
        }
        _ => None,
    };
    token.unwrap_or_else(|| {
        let mask = constrained.mask(history);
        sampler.sample_from(logits, history, mask.as_ref())
    })
}

/// Adds biases that forbid end tokens. Of two biases of a token the first counts.
fn forbid_ends(sampling: &mut Sampling, tokenizer: &Tokenizer) {
    let ends = tokenizer.ends_of_generation().map(|token| (token, f32::NEG_INFINITY));
    sampling.logit_bias.splice(0..0, ends);
}
