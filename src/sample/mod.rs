//! The target's distribution over the next token, and drawing a token from it.
//!
//! A draw is keyed by (seed, absolute position) instead of taken from a stream of random numbers. So the token at a
//! position depends only on the seed, the position and the distribution there, however many drafted tokens were tried
//! before. The order of operations is llama.cpp's: penalties, top-k, top-p, min-p, temperature.

mod asking;
mod distribution;

pub use distribution::Distribution;

use crate::error::{Error, Result};
use crate::infer::{Logits, TokenLogit, by_logit};
use crate::setting::Setting;
use crate::text::TokenMask;

/// How tokens are sampled. The defaults are llama.cpp's.
#[derive(Clone, Debug)]
pub struct Sampling {
    /// Divides the logits; 0 always takes the likeliest token.
    pub temperature: f32,
    /// Keeps this many of the likeliest tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the likeliest tokens that together reach this probability; 1 keeps all.
    pub top_p: f32,
    /// Drops tokens whose probability is below this fraction of the likeliest one's; 0 keeps all.
    pub min_p: f32,
    /// Divides the positive and multiplies the negative logits of recent tokens; 1 has no effect.
    pub repeat_penalty: f32,
    /// How many of the last tokens count as recent; −1 for the whole context.
    pub repeat_last_n: i32,
    /// Subtracted from the logits of recent tokens.
    pub presence_penalty: f32,
    /// Subtracted from the logits of recent tokens, once for each time they occur.
    pub frequency_penalty: f32,
    /// Added to the logits of these tokens first; −∞ forbids a token.
    pub logit_bias: Vec<(u32, f32)>,
    /// Seed of all draws.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: 0,
        }
    }
}

impl Sampling {
    /// Checks that all numbers are in range.
    ///
    /// # Errors
    /// If one is not; the error names the first.
    pub fn check(&self) -> Result<()> {
        for (setting, value) in [
            (Setting::Temperature, self.temperature),
            (Setting::TopP, self.top_p),
            (Setting::MinP, self.min_p),
            (Setting::RepeatPenalty, self.repeat_penalty),
            (Setting::PresencePenalty, self.presence_penalty),
            (Setting::FrequencyPenalty, self.frequency_penalty),
        ] {
            setting.check(value)?;
        }
        if let Some((token, bias)) = self.logit_bias.iter().find(|(_, bias)| bias.is_nan()) {
            return Err(Error::Invalid(format!(
                "the logit bias of token {token} is {bias}; give a number"
            )));
        }
        Ok(Setting::RepeatLastN.check(self.repeat_last_n)?)
    }
}

/// If at most one of so many tokens may follow, those are looked at one by one.
const FEW: usize = 8;

/// A token and its weight, which is proportional to its probability.
#[derive(Clone, Copy, Debug)]
struct Weighted {
    token: u32,
    weight: f64,
}

/// Samples tokens. It holds only buffers, no state from one token to the next.
pub struct Sampler {
    sampling: Sampling,
    best: Vec<TokenLogit>,
    /// Tokens whose logits the bias and penalties have changed, in ascending order.
    changed: Vec<TokenLogit>,
    weighted: Vec<Weighted>,
    recent: Vec<u32>,
}

impl Sampler {
    /// A sampler with these settings.
    pub fn new(mut sampling: Sampling) -> Sampler {
        sampling.logit_bias.sort_by_key(|(token, _)| *token);
        sampling.logit_bias.dedup_by_key(|(token, _)| *token);
        // These capacities suffice for all but extreme settings, so that generation does not allocate.
        let recent = sampling.repeat_last_n.clamp(0, 4096) as usize;
        let (top_k, biased) = (sampling.top_k.clamp(1, 4096), sampling.logit_bias.len());
        let most = top_k + recent + biased + asking::MOST_ASKED;
        Sampler {
            sampling,
            best: Vec::with_capacity(Logits::room_for_top(most)),
            changed: Vec::with_capacity(recent + biased),
            weighted: Vec::with_capacity(top_k),
            recent: Vec::with_capacity(recent),
        }
    }

    /// The settings.
    pub fn sampling(&self) -> &Sampling {
        &self.sampling
    }

    /// Samples the token after `history` from `logits`. Its absolute position is `history.len()`.
    pub fn sample(&mut self, logits: Logits, history: &[u32]) -> u32 {
        self.sample_from(logits, history, None)
    }

    /// The same from the tokens that `mask` allows, of which there is at least one.
    pub(crate) fn sample_from(
        &mut self,
        logits: Logits,
        history: &[u32],
        mask: Option<&TokenMask>,
    ) -> u32 {
        if let Some(TokenMask::One(token)) = mask {
            return *token;
        }
        self.penalise(logits, history, mask);
        if self.sampling.temperature <= 0.0 {
            if self.changed.is_empty() && mask.is_none() {
                return logits.best();
            }
            self.take_best(logits, 1, mask);
            return self.best[0].token;
        }
        self.take_possible(logits, mask);
        let draw = uniform(self.sampling.seed, Purpose::Token, history.len() as u64);
        let total: f64 = self.weighted.iter().map(|c| c.weight).sum();
        let mut left = draw * total;
        for candidate in &self.weighted {
            left -= candidate.weight;
            if left < 0.0 {
                return candidate.token;
            }
        }
        // Rounding may leave a rest; a forbidden token has no weight.
        let last = self.weighted.iter().rfind(|c| c.weight > 0.0);
        last.or(self.weighted.last()).map_or(0, |c| c.token)
    }

    /// The distribution from which [`Sampler::sample`] draws.
    pub fn distribution(&mut self, logits: Logits, history: &[u32]) -> Distribution {
        self.distribution_over(logits, history, None)
    }

    /// The same over the tokens that `mask` allows, of which there is at least one.
    pub(crate) fn distribution_over(
        &mut self,
        logits: Logits,
        history: &[u32],
        mask: Option<&TokenMask>,
    ) -> Distribution {
        if let Some(TokenMask::One(token)) = mask {
            return Distribution::new([(*token, 1.0)]);
        }
        self.penalise(logits, history, mask);
        if self.sampling.temperature <= 0.0 {
            self.take_best(logits, 1, mask);
            return Distribution::new([(self.best[0].token, 1.0)]);
        }
        self.take_possible(logits, mask);
        if !self.weighted.iter().any(|c| c.weight > 0.0) {
            return Distribution::new(self.weighted.last().map(|c| (c.token, 1.0)));
        }
        Distribution::new(self.weighted.iter().map(|c| (c.token, c.weight)))
    }

    /// Fills `weighted` with the tokens that can be drawn.
    fn take_possible(&mut self, logits: Logits, mask: Option<&TokenMask>) {
        self.take_best(logits, self.top_k(logits), mask);
        self.weigh();
    }

    /// How many of the likeliest tokens are kept.
    fn top_k(&self, logits: Logits) -> usize {
        if self.sampling.top_k == 0 { logits.n_vocab() } else { self.sampling.top_k }
    }

    /// Fills `changed` with the allowed tokens that bias and penalties change, and their new logits.
    fn penalise(&mut self, logits: Logits, history: &[u32], mask: Option<&TokenMask>) {
        self.changed.clear();
        let s = &self.sampling;
        let none =
            s.repeat_penalty == 1.0 && s.presence_penalty == 0.0 && s.frequency_penalty == 0.0;
        let window = usize::try_from(s.repeat_last_n).unwrap_or(usize::MAX).min(history.len());
        let window = if none { 0 } else { window };
        let biased = s.logit_bias.iter().filter(|(token, _)| (*token as usize) < logits.n_vocab());
        self.changed.extend(
            biased.map(|&(token, bias)| TokenLogit { token, logit: logits.of(token) + bias }),
        );
        let n_biased = self.changed.len();
        self.recent.clear();
        self.recent.extend_from_slice(&history[history.len() - window..]);
        self.recent.sort_unstable();
        for same in self.recent.chunk_by(|a, b| a == b) {
            let token = same[0];
            if token as usize >= logits.n_vocab() {
                continue;
            }
            let biased = self.changed[..n_biased].binary_search_by_key(&token, |c| c.token);
            let mut logit = biased.map_or_else(|_| logits.of(token), |at| self.changed[at].logit);
            if logit > 0.0 {
                logit /= s.repeat_penalty;
            } else {
                logit *= s.repeat_penalty;
            }
            logit -= s.presence_penalty + s.frequency_penalty * same.len() as f32;
            match biased {
                Ok(at) => self.changed[at].logit = logit,
                Err(_) => self.changed.push(TokenLogit { token, logit }),
            }
        }
        if n_biased > 0 {
            self.changed.sort_unstable_by_key(|c| c.token);
        }
        if let Some(mask) = mask {
            self.changed.retain(|c| mask.allows(c.token));
        }
    }

    /// Fills `best` with the best `k` tokens after penalties, the likeliest first.
    fn take_best(&mut self, logits: Logits, k: usize, mask: Option<&TokenMask>) {
        // At worst, all changed tokens drop out of the best.
        let n = k.saturating_add(self.changed.len());
        match mask.map(|mask| (mask, mask.few(logits.n_vocab() / FEW))) {
            None => logits.top(n, &mut self.best),
            Some((_, Some(few))) => logits.top_among(n, few, &mut self.best),
            Some((mask, None)) => logits.top_of(n, |token| mask.allows(token), &mut self.best),
        }
        if !self.changed.is_empty() {
            let changed = &self.changed;
            self.best.retain(|c| changed.binary_search_by_key(&c.token, |c| c.token).is_err());
            self.best.extend_from_slice(changed);
            self.best.sort_unstable_by(by_logit);
        }
        self.best.truncate(k);
    }

    /// Weighs the best tokens that pass top-p and min-p in proportion to their probabilities at the temperature.
    fn weigh(&mut self) {
        let s = &self.sampling;
        let top = self.best[0].logit as f64;
        let weighted =
            self.best.iter().map(|c| Weighted { token: c.token, weight: c.logit as f64 });
        self.weighted.clear();
        self.weighted.extend(weighted);
        if s.top_p < 1.0 {
            let weight = |c: &Weighted| libm::exp(c.weight - top);
            let enough = s.top_p as f64 * self.weighted.iter().map(weight).sum::<f64>();
            let mut sum = 0.0;
            let kept = self.weighted.iter().position(|c| {
                sum += weight(c);
                sum >= enough
            });
            self.weighted.truncate(kept.map_or(self.weighted.len(), |last| last + 1));
        }
        if s.min_p > 0.0 {
            let lowest = top + libm::log(s.min_p as f64);
            let kept = self.weighted.partition_point(|c| c.weight >= lowest);
            self.weighted.truncate(kept.max(1));
        }
        for c in &mut self.weighted {
            c.weight = libm::exp((c.weight - top) / s.temperature as f64);
        }
    }
}

/// The purpose of a random number; numbers of different purposes are independent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// The token at position `n`.
    Token,
    /// A token that a drafter samples.
    Draft,
    /// Whether a drafted token is accepted.
    Accept,
}

/// A uniform number in [0, 1), fixed by seed, purpose and `n`.
///
/// # Source
/// The finaliser of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014), applied to
/// seed and purpose, and then together with `n`.
pub(crate) fn uniform(seed: u64, purpose: Purpose, n: u64) -> f64 {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    fn mix(mut x: u64) -> u64 {
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
    let key = mix(seed.wrapping_add(STEP));
    let key = match purpose {
        Purpose::Token => key,
        other => mix(key.wrapping_add(other as u64)),
    };
    let x = mix(key.wrapping_add(STEP.wrapping_mul(n.wrapping_add(1))));
    (x >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infer::rows_of;
    use std::f32::consts::LN_2;

    /// The token that `sampler` samples after `history`.
    fn sample(sampler: &mut Sampler, logits: &[f32], history: &[u32]) -> u32 {
        sampler.sample(rows_of(&[logits.to_vec()]).row(0), history)
    }

    #[test]
    fn numbers_out_of_range_are_refused_by_name() {
        let with = |change: fn(&mut Sampling)| {
            let mut sampling = Sampling::default();
            change(&mut sampling);
            sampling.check().map_err(|error| error.to_string())
        };
        for change in [
            (|_| {}) as fn(&mut Sampling),
            |s| s.temperature = 0.0,
            |s| s.temperature = 99.0,
            |s| (s.top_p, s.min_p) = (0.0, 1.0),
            |s| s.repeat_last_n = -1,
            |s| s.repeat_penalty = f32::MIN_POSITIVE,
            |s| (s.presence_penalty, s.frequency_penalty) = (-2.0, -2.0),
        ] {
            assert_eq!(with(change), Ok(()));
        }
        for (change, line) in [
            (
                (|s| s.temperature = -1.0) as fn(&mut Sampling),
                "the temperature (-1) is out of range; give 0 or a positive number",
            ),
            (|s| s.temperature = f32::NAN, "the temperature (NaN) is out of range"),
            (|s| s.top_p = 2.0, "the top-p (2) is out of range; give a number from 0 to 1"),
            (|s| s.min_p = 5.0, "the min-p (5) is out of range; give a number from 0 to 1"),
            (|s| s.repeat_penalty = 0.0, "the repeat penalty (0) is out of range"),
            (|s| s.repeat_last_n = -5, "the number of recent tokens (-5) is out of range; give a"),
            (|s| s.presence_penalty = f32::INFINITY, "the presence penalty (inf) is out of range"),
            (|s| s.frequency_penalty = f32::NAN, "the frequency penalty (NaN) is out of range"),
        ] {
            let error = with(change).unwrap_err();
            assert!(error.starts_with(line), "{error}");
        }
    }

    fn plain() -> Sampling {
        Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, ..Sampling::default() }
    }

    /// How often each of four tokens is drawn over many positions.
    fn frequencies(sampling: Sampling, logits: [f32; 4]) -> [f64; 4] {
        const N: usize = 40_000;
        let mut sampler = Sampler::new(sampling);
        let rows = rows_of(&[logits.to_vec()]);
        let history = vec![9; N];
        let mut counts = [0.0; 4];
        for position in 0..N {
            counts[sampler.sample(rows.row(0), &history[..position]) as usize] += 1.0;
        }
        counts.map(|c| c / N as f64)
    }

    fn close(a: [f64; 4], b: [f64; 4]) -> bool {
        a.iter().zip(b).all(|(a, b)| (a - b).abs() < 0.01)
    }

    const LOGITS: [f32; 4] = [0.0, 1.098_612_3, LN_2, -2.0 * LN_2]; // 1 : 3 : 2 : 1/4

    #[test]
    fn draws_follow_the_distribution() {
        let sum = 6.25;
        let expected = [1.0 / sum, 3.0 / sum, 2.0 / sum, 0.25 / sum];
        assert!(close(frequencies(plain(), LOGITS), expected));
        let cold = Sampling { temperature: 0.5, ..plain() };
        let sum = 14.0625;
        let expected = [1.0 / sum, 9.0 / sum, 4.0 / sum, 0.0625 / sum];
        assert!(close(frequencies(cold, LOGITS), expected));
    }

    #[test]
    fn truncations_keep_what_they_should() {
        let [k, p, m] = [
            Sampling { top_k: 2, ..plain() },
            Sampling { top_p: 0.75, ..plain() },
            Sampling { min_p: 0.3, ..plain() },
        ];
        assert!(close(frequencies(k, LOGITS), [0.0, 0.6, 0.4, 0.0]));
        assert!(close(frequencies(p, LOGITS), [0.0, 0.6, 0.4, 0.0]));
        assert!(close(frequencies(m, LOGITS), [1.0 / 6.0, 0.5, 1.0 / 3.0, 0.0]));
    }

    /// A mask is the same as a bias of −∞ on all other tokens, whatever else there is.
    #[test]
    fn masked_tokens_are_as_if_they_were_not_there() {
        let logits: Vec<f32> = (0..40).map(|i| ((i * 7) % 40) as f32 / 9.0).collect();
        let rows = rows_of(&[vec![9.0; 40], logits]);
        for allowed in [&[3][..], &[0, 5, 17, 39], &[8, 9, 10, 11, 12, 13, 30, 31, 32]] {
            let mask = match allowed {
                [only] => TokenMask::One(*only),
                _ => TokenMask::of(40, allowed),
            };
            let bias = |token: u32| {
                (token, if allowed.contains(&token) { 0.0 } else { f32::NEG_INFINITY })
            };
            for temperature in [0.0, 0.8, 2.0] {
                for (top_k, repeat_penalty) in [(0, 1.0), (3, 1.0), (2, 1.5), (40, 1.1)] {
                    let with = Sampling { temperature, top_k, repeat_penalty, ..plain() };
                    let without =
                        Sampling { logit_bias: (0..40).map(bias).collect(), ..with.clone() };
                    let (mut masked, mut biased) = (Sampler::new(with), Sampler::new(without));
                    for n in 0..50 {
                        let history: Vec<u32> = (0..n).map(|i| (i * i) % 40).collect();
                        let token = masked.sample_from(rows.row(1), &history, Some(&mask));
                        assert_eq!(token, biased.sample(rows.row(1), &history));
                        let found = masked.distribution_over(rows.row(1), &history, Some(&mask));
                        let expected = biased.distribution(rows.row(1), &history);
                        let p =
                            |d: &Distribution| (0..40).map(|token| d.of(token)).collect::<Vec<_>>();
                        assert_eq!(p(&found), p(&expected));
                    }
                }
            }
        }
    }

    #[test]
    fn temperature_zero_takes_the_first_of_the_largest() {
        let greedy = Sampling { temperature: 0.0, ..plain() };
        assert_eq!(sample(&mut Sampler::new(greedy), &[1.0, 3.0, 3.0, -1.0], &[]), 1);
    }

    #[test]
    fn a_position_always_draws_the_same_whatever_came_before() {
        let mut fresh = Sampler::new(plain());
        let mut used = Sampler::new(plain());
        for position in 0..500 {
            let history = vec![position as u32; position];
            for _ in 0..position % 3 {
                sample(&mut used, &LOGITS, &[7]);
            }
            let tokens = [&mut fresh, &mut used].map(|s| sample(s, &LOGITS, &history));
            assert_eq!(tokens[0], tokens[1]);
        }
        let other = Sampling { seed: 1, ..plain() };
        let differ = (0..100).filter(|&n| {
            let history = vec![0; n];
            sample(&mut Sampler::new(other.clone()), &LOGITS, &history)
                != sample(&mut fresh, &LOGITS, &history)
        });
        assert!(differ.count() > 20, "seeds choose different texts");
    }

    #[test]
    fn not_a_number_draws_some_token() {
        for sampling in [plain(), Sampling::default()] {
            let mut logits = [f32::NAN; 64];
            logits[3] = 1.0;
            assert!(sample(&mut Sampler::new(sampling.clone()), &logits, &[]) < 64);
            let rows = rows_of(&[logits.to_vec()]);
            let distribution = Sampler::new(sampling).distribution(rows.row(0), &[]);
            assert!(distribution.at(0.5).is_some_and(|token| token < 64));
        }
    }

    #[test]
    fn penalties_count_recent_tokens_only() {
        let penalties = Sampling {
            repeat_penalty: 2.0,
            repeat_last_n: 3,
            presence_penalty: 0.5,
            frequency_penalty: 0.25,
            temperature: 0.0,
            ..plain()
        };
        let rows = rows_of(&[vec![4.0, -4.0, 4.0, 4.0]]);
        let mut sampler = Sampler::new(penalties);
        assert_eq!(sampler.sample(rows.row(0), &[2, 0, 0, 1]), 2);
        let changed = sampler.changed.iter().map(|c| (c.token, c.logit)).collect::<Vec<_>>();
        assert_eq!(changed, [(0, 2.0 - 1.0), (1, -8.0 - 0.75)]);
    }

    #[test]
    fn penalised_tokens_make_room_for_the_next_best() {
        let logits: Vec<f32> = (0..100).map(|i| (i * 37 % 100) as f32 / 10.0).collect();
        let by_hand = |penalty: f32, history: &[u32], top_k: usize| {
            let mut all: Vec<TokenLogit> =
                logits.iter().zip(0..).map(|(&logit, token)| TokenLogit { token, logit }).collect();
            history.iter().for_each(|&t| all[t as usize].logit -= penalty);
            all.sort_by(by_logit);
            all.truncate(top_k);
            all
        };
        let rows = rows_of(std::slice::from_ref(&logits));
        for penalty in [5.0, -5.0] {
            for top_k in [1, 3, 40] {
                let history = [73, 46, 19, 0, 1];
                let sampling = Sampling { presence_penalty: penalty, top_k, ..plain() };
                let mut sampler = Sampler::new(sampling);
                sampler.sample(rows.row(0), &history);
                assert_eq!(sampler.best, by_hand(penalty, &history, top_k));
            }
        }
    }
}
