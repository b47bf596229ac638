//! The target's distribution over the next token, and the draw from it.
//!
//! The draw is keyed by (seed, absolute position), not taken from a stream: the token at a position
//! depends on the seed, the position and the distribution there alone, however many tokens were
//! tried on the way. Order of operations, as llama.cpp has it: penalties, top-k, top-p, min-p,
//! temperature.

/// How tokens are chosen. The defaults are llama.cpp's.
#[derive(Clone, Debug)]
pub struct Sampling {
    /// Divides the logits; 0 or less takes the most likely token.
    pub temperature: f32,
    /// Keeps the so many most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the most likely tokens that together have this probability; 1 keeps all.
    pub top_p: f32,
    /// Drops tokens less likely than this part of the most likely one; 0 keeps all.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of recent tokens; 1 leaves them.
    pub repeat_penalty: f32,
    /// How many tokens back a token is recent; −1 for the whole context.
    pub repeat_last_n: i32,
    /// Subtracted from the logits of recent tokens.
    pub presence_penalty: f32,
    /// Subtracted from the logits of recent tokens, once for each time they occur.
    pub frequency_penalty: f32,
    /// Selects one of all possible texts.
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
            seed: 0,
        }
    }
}

/// A token with its logit, later its probability.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Candidate {
    token: u32,
    weight: f64,
}

/// Chooses tokens; holds buffers only, no state from one token to the next.
pub struct Sampler {
    sampling: Sampling,
    candidates: Vec<Candidate>,
    recent: Vec<u32>,
}

impl Sampler {
    /// A sampler with these settings.
    pub fn new(sampling: Sampling) -> Sampler {
        // Grows no more while text is made, unless penalties look further back than anyone asks for.
        let recent = Vec::with_capacity(sampling.repeat_last_n.clamp(0, 4096) as usize);
        Sampler { sampling, candidates: Vec::new(), recent }
    }

    /// The settings.
    pub fn sampling(&self) -> &Sampling {
        &self.sampling
    }

    /// The token after `history`, whose logits are `logits` (n_vocab). Penalties change the logits in
    /// place. The absolute position of the token is `history.len()`.
    pub fn sample(&mut self, logits: &mut [f32], history: &[u32]) -> u32 {
        self.penalise(logits, history);
        if self.sampling.temperature <= 0.0 {
            return arg_max(logits);
        }
        self.truncate(logits);
        let draw = uniform(self.sampling.seed, history.len() as u64);
        let total: f64 = self.candidates.iter().map(|c| c.weight).sum();
        let mut left = draw * total;
        for candidate in &self.candidates {
            left -= candidate.weight;
            if left < 0.0 {
                return candidate.token;
            }
        }
        self.candidates.last().map_or(0, |c| c.token)
    }

    fn penalise(&mut self, logits: &mut [f32], history: &[u32]) {
        let s = &self.sampling;
        let none =
            s.repeat_penalty == 1.0 && s.presence_penalty == 0.0 && s.frequency_penalty == 0.0;
        let window = usize::try_from(s.repeat_last_n).unwrap_or(usize::MAX).min(history.len());
        if none || window == 0 {
            return;
        }
        self.recent.clear();
        self.recent.extend_from_slice(&history[history.len() - window..]);
        self.recent.sort_unstable();
        for same in self.recent.chunk_by(|a, b| a == b) {
            let Some(logit) = logits.get_mut(same[0] as usize) else { continue };
            if *logit > 0.0 {
                *logit /= s.repeat_penalty;
            } else {
                *logit *= s.repeat_penalty;
            }
            *logit -= s.presence_penalty + s.frequency_penalty * same.len() as f32;
        }
    }

    /// Leaves the candidates that survive top-k, top-p and min-p, most likely first, with weights in
    /// proportion to their probabilities at the temperature.
    fn truncate(&mut self, logits: &[f32]) {
        let s = &self.sampling;
        let all = logits.iter().zip(0..);
        self.candidates.clear();
        self.candidates.extend(all.map(|(&l, token)| Candidate { token, weight: l as f64 }));
        // A total order, so that not even NaN from a damaged model upsets the sort.
        let by_logit = |a: &Candidate, b: &Candidate| {
            b.weight.total_cmp(&a.weight).then(a.token.cmp(&b.token))
        };
        if 0 < s.top_k && s.top_k < self.candidates.len() {
            self.candidates.select_nth_unstable_by(s.top_k - 1, by_logit);
            self.candidates.truncate(s.top_k);
        }
        self.candidates.sort_unstable_by(by_logit);
        let top = self.candidates[0].weight;
        if s.top_p < 1.0 {
            let weight = |c: &Candidate| libm::exp(c.weight - top);
            let enough = s.top_p as f64 * self.candidates.iter().map(weight).sum::<f64>();
            let mut sum = 0.0;
            let kept = self.candidates.iter().position(|c| {
                sum += weight(c);
                sum >= enough
            });
            self.candidates.truncate(kept.map_or(self.candidates.len(), |last| last + 1));
        }
        if s.min_p > 0.0 {
            let lowest = top + libm::log(s.min_p as f64);
            let kept = self.candidates.partition_point(|c| c.weight >= lowest);
            self.candidates.truncate(kept.max(1));
        }
        for c in &mut self.candidates {
            c.weight = libm::exp((c.weight - top) / s.temperature as f64);
        }
    }
}

/// The index of the largest logit, the first of several.
fn arg_max(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (i, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = i;
        }
    }
    best as u32
}

/// A number in [0, 1) for each (seed, position).
///
/// # Source
/// The finaliser of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators",
/// 2014), applied to the seed and to the position on top of it.
fn uniform(seed: u64, position: u64) -> f64 {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    fn mix(mut x: u64) -> u64 {
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
    let key = mix(seed.wrapping_add(STEP));
    let x = mix(key.wrapping_add(STEP.wrapping_mul(position.wrapping_add(1))));
    (x >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f32::consts::LN_2;

    fn plain() -> Sampling {
        Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, ..Sampling::default() }
    }

    /// How often each of four tokens is drawn over many positions.
    fn frequencies(sampling: Sampling, logits: [f32; 4]) -> [f64; 4] {
        const N: usize = 40_000;
        let mut sampler = Sampler::new(sampling);
        let history = vec![9; N];
        let mut counts = [0.0; 4];
        for position in 0..N {
            counts[sampler.sample(&mut logits.clone(), &history[..position]) as usize] += 1.0;
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

    #[test]
    fn temperature_zero_takes_the_first_of_the_largest() {
        let greedy = Sampling { temperature: 0.0, ..plain() };
        assert_eq!(Sampler::new(greedy).sample(&mut [1.0, 3.0, 3.0, -1.0], &[]), 1);
    }

    #[test]
    fn a_position_always_draws_the_same_whatever_came_before() {
        let mut fresh = Sampler::new(plain());
        let mut used = Sampler::new(plain());
        for position in 0..500 {
            let history = vec![position as u32; position];
            for _ in 0..position % 3 {
                used.sample(&mut LOGITS.clone(), &[7]);
            }
            let tokens = [&mut fresh, &mut used].map(|s| s.sample(&mut LOGITS.clone(), &history));
            assert_eq!(tokens[0], tokens[1]);
        }
        let other = Sampling { seed: 1, ..plain() };
        let differ = (0..100).filter(|&n| {
            let history = vec![0; n];
            Sampler::new(other.clone()).sample(&mut LOGITS.clone(), &history)
                != fresh.sample(&mut LOGITS.clone(), &history)
        });
        assert!(differ.count() > 20, "seeds choose different texts");
    }

    #[test]
    fn not_a_number_draws_some_token() {
        for sampling in [plain(), Sampling::default()] {
            let mut logits = [f32::NAN; 64];
            logits[3] = 1.0;
            assert!(Sampler::new(sampling).sample(&mut logits, &[]) < 64);
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
        let mut logits = [4.0, -4.0, 4.0, 4.0];
        Sampler::new(penalties).sample(&mut logits, &[2, 0, 0, 1]);
        assert_eq!(logits, [2.0 - 1.0, -8.0 - 0.75, 4.0, 4.0]);
    }
}
