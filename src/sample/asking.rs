//! Sampling under a grammar without a mask: it is asked whether a few tokens may follow, which takes less time.
//!
//! Tokens are asked about from the likeliest on. Those behind can only add to the sums with which top-p and the draw
//! compare, and add the most if all of them may follow. Where the least and the most sum draw the same token, so does the
//! sum of the tokens that a mask allows, which lies between.

use super::{Purpose, Sampler, Sampling, uniform};
use crate::infer::{Logits, TokenLogit};

/// Largest number of tokens that are asked about; a mask takes less time than more of them.
pub(super) const MOST_ASKED: usize = 32;

/// Largest top-k with which tokens are asked about: all that are behind count for each one.
const LARGEST_TOP_K: usize = 1024;

/// Exceeds what rounding can take from the sum of larger numbers.
const ROUNDING: f64 = 1.0 + 1e-9;

impl Sampler {
    /// The token that [`Sampler::sample_from`] takes from a mask of the tokens that are `allowed`; `None` if it takes too
    /// many questions to tell, or too many tokens may be drawn.
    pub(crate) fn sample_asking(
        &mut self,
        logits: Logits,
        history: &[u32],
        mut allowed: impl FnMut(u32) -> bool,
    ) -> Option<u32> {
        let (top_k, is_greedy) = (self.top_k(logits), self.sampling.temperature <= 0.0);
        if top_k > LARGEST_TOP_K && !is_greedy {
            return None;
        }
        self.penalise(logits, history, None);
        if is_greedy {
            return self.first_allowed(logits, allowed);
        }
        self.take_best(logits, top_k + MOST_ASKED, None);
        let draw = uniform(self.sampling.seed, Purpose::Token, history.len() as u64);
        let mut n = 0;
        for asked in 0..MOST_ASKED.min(self.best.len()) {
            if !allowed(self.best[asked].token) {
                continue;
            }
            // The allowed ones come first, in their order; then those that are not.
            self.best.swap(n, asked);
            n += 1;
            let behind = &self.best[asked + 1..];
            let behind = &behind[..behind.len().min(top_k - n)];
            let token = drawn_whatever_follows(&self.sampling, &self.best[..n], behind, draw);
            if token.is_some() || n == top_k {
                return token;
            }
        }
        None
    }

    /// The likeliest token that is allowed.
    fn first_allowed(
        &mut self,
        logits: Logits,
        mut allowed: impl FnMut(u32) -> bool,
    ) -> Option<u32> {
        let mut n_asked = 0;
        if self.changed.is_empty() {
            let likeliest = logits.best();
            if allowed(likeliest) {
                return Some(likeliest);
            }
            n_asked = 1;
        }
        self.take_best(logits, MOST_ASKED, None);
        self.best[n_asked..].iter().map(|one| one.token).find(|token| allowed(*token))
    }
}

/// The token that is drawn from `allowed` tokens and any of those `behind` them; `None` if that depends on these.
fn drawn_whatever_follows(
    sampling: &Sampling,
    allowed: &[TokenLogit],
    behind: &[TokenLogit],
    draw: f64,
) -> Option<u32> {
    let top = allowed[0].logit as f64;
    let lowest = match sampling.min_p > 0.0 {
        true => top + libm::log(sampling.min_p as f64),
        false => f64::NEG_INFINITY,
    };
    let weight =
        |one: &TokenLogit| libm::exp((one.logit as f64 - top) / sampling.temperature as f64);
    let kept = &allowed[..sure_to_be_kept(sampling, allowed, lowest)];
    let drawn = |total: f64| {
        let mut left = draw * total;
        kept.iter().position(|one| {
            left -= weight(one);
            left < 0.0
        })
    };
    let least: f64 = kept.iter().map(weight).sum();
    let first = drawn(least)?;
    if behind.is_empty() {
        return Some(kept[first].token);
    }
    let others = allowed[kept.len()..].iter().chain(behind);
    let others = others.take_while(|one| one.logit as f64 >= lowest).map(weight).sum::<f64>();
    (drawn((least + others) * ROUNDING) == Some(first)).then(|| kept[first].token)
}

/// How many of the `allowed` tokens pass top-p and min-p, whatever follows them.
fn sure_to_be_kept(sampling: &Sampling, allowed: &[TokenLogit], lowest: f64) -> usize {
    let top = allowed[0].logit as f64;
    let mut kept = allowed.len();
    if sampling.top_p < 1.0 {
        let weight = |one: &TokenLogit| libm::exp(one.logit as f64 - top);
        let enough = sampling.top_p as f64 * allowed.iter().map(weight).sum::<f64>();
        let mut sum = 0.0;
        let last = allowed.iter().position(|one| {
            sum += weight(one);
            sum >= enough
        });
        kept = last.map_or(kept, |last| last + 1);
    }
    let above = allowed.iter().take_while(|one| one.logit as f64 >= lowest).count();
    kept.min(above.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infer::rows_of;
    use crate::text::TokenMask;
    use proptest::prelude::*;

    const N_VOCAB: usize = 60;

    fn samplings() -> impl Strategy<Value = Sampling> {
        let one_of = |numbers: &'static [f32]| prop::sample::select(numbers);
        let temperatures = one_of(&[0.0, 0.3, 0.8, 1.0, 2.0]);
        let parts = (one_of(&[0.0, 0.5, 0.95, 1.0]), one_of(&[0.0, 0.05, 0.3, 1.0]));
        let top_ks = prop::sample::select(&[0, 1, 3, 40, 100][..]);
        let penalties = (one_of(&[1.0, 1.3]), one_of(&[0.0, -2.0]));
        let biases = prop::sample::select(&[0.0, 3.0, f32::NEG_INFINITY][..]);
        let numbers = (temperatures, parts, top_ks, penalties, biases, any::<u64>());
        numbers.prop_map(|(temperature, (top_p, min_p), top_k, penalties, bias, seed)| Sampling {
            temperature,
            top_k,
            top_p,
            min_p,
            repeat_penalty: penalties.0,
            presence_penalty: penalties.1,
            logit_bias: if bias == 0.0 { Vec::new() } else { vec![(7, bias), (30, bias)] },
            seed,
            ..Sampling::default()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn what_can_be_told_is_what_a_mask_gives(
            row in prop::collection::vec(-40i32..40, N_VOCAB),
            allowed in prop::collection::vec(prop::bool::weighted(0.7), N_VOCAB),
            history in prop::collection::vec(0..N_VOCAB as u32, 0..5),
            sampling in samplings(),
        ) {
            let rows = rows_of(&[vec![9.0; N_VOCAB], row.iter().map(|x| *x as f32 / 6.0).collect()]);
            let tokens: Vec<u32> = (0..).zip(&allowed).filter(|(_, is)| **is).map(|(token, _)| token).collect();
            prop_assume!(!tokens.is_empty());
            let mask = TokenMask::of(N_VOCAB, &tokens);
            let mut sampler = Sampler::new(sampling);
            let mut n_asked = 0;
            let told = sampler.sample_asking(rows.row(1), &history, |token| {
                n_asked += 1;
                allowed[token as usize]
            });
            prop_assert!(n_asked <= MOST_ASKED);
            if let Some(token) = told {
                prop_assert_eq!(token, sampler.sample_from(rows.row(1), &history, Some(&mask)));
            }
        }
    }

    /// Asks about a row where each token is half as likely as the one before it, at many positions. Returns how many of
    /// 1000 draws were told, and the mean number of questions.
    fn ask(sampling: &Sampling, allowed: impl Fn(u32) -> bool) -> (usize, f64) {
        let rows = rows_of(&[(0..N_VOCAB).map(|i| -(i as f32) * std::f32::consts::LN_2).collect()]);
        let mut sampler = Sampler::new(sampling.clone());
        let (mut told, mut n_asked) = (0, 0);
        for position in 0..1000 {
            let token = sampler.sample_asking(rows.row(0), &vec![0; position], |token| {
                n_asked += 1;
                allowed(token)
            });
            told += usize::from(token.is_some());
        }
        (told, n_asked as f64 / 1000.0)
    }

    #[test]
    fn a_few_questions_tell_most_draws() {
        let greedy = Sampling { temperature: 0.0, ..Sampling::default() };
        assert_eq!(ask(&greedy, |_| true), (1000, 1.0));
        assert_eq!(ask(&greedy, |token| token >= 5), (1000, 6.0));
        assert_eq!(ask(&greedy, |token| token >= 40), (0, MOST_ASKED as f64));
        for (sampling, most) in [
            (Sampling::default(), 3.0),
            (Sampling { top_k: 0, top_p: 1.0, min_p: 0.0, ..Sampling::default() }, 3.5),
        ] {
            let (told, n_asked) = ask(&sampling, |_| true);
            assert!(told >= 980 && n_asked <= most, "{told} of 1000, {n_asked} questions");
            let (told, _) = ask(&sampling, |token| token % 2 == 1);
            assert!(told >= 950, "{told} of 1000");
            assert_eq!(ask(&sampling, |token| token >= 40), (0, MOST_ASKED as f64));
        }
    }

    #[test]
    fn nothing_is_told_of_what_is_no_number() {
        let rows = rows_of(&[vec![f32::NAN; N_VOCAB], vec![f32::INFINITY; N_VOCAB]]);
        let mut sampler = Sampler::new(Sampling::default());
        for row in 0..2 {
            assert_eq!(sampler.sample_asking(rows.row(row), &[], |_| true), None);
        }
    }
}
