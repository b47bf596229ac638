//! Sparse probability distributions over tokens.

/// The probabilities of some tokens; all other tokens have probability 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    tokens: Vec<u32>, // ascending
    probabilities: Vec<f64>,
}

impl Distribution {
    /// A distribution in proportion to these weights, none of them negative; each token occurs once.
    pub fn new(weights: impl IntoIterator<Item = (u32, f64)>) -> Distribution {
        let mut pairs: Vec<(u32, f64)> = weights.into_iter().collect();
        pairs.sort_unstable_by_key(|(token, _)| *token);
        let (tokens, probabilities) = pairs.into_iter().unzip();
        let mut distribution = Distribution { tokens, probabilities };
        distribution.normalise();
        distribution
    }

    /// The distribution with each token replaced by `token`, or dropped for `None`; no two results are equal.
    pub fn map(&self, token: impl Fn(u32) -> Option<u32>) -> Distribution {
        let pairs = self.tokens.iter().zip(&self.probabilities);
        Distribution::new(pairs.filter_map(|(old, p)| token(*old).map(|new| (new, *p))))
    }

    /// The probability of `token`.
    pub fn of(&self, token: u32) -> f64 {
        self.tokens.binary_search(&token).map_or(0.0, |i| self.probabilities[i])
    }

    /// The token at `draw`, a number in [0, 1), of the cumulative distribution; `None` if all probabilities are 0.
    pub fn at(&self, draw: f64) -> Option<u32> {
        let mut left = draw;
        let possible = |(_, p): &(&u32, &f64)| **p > 0.0;
        let mut last = None;
        for (token, p) in self.tokens.iter().zip(&self.probabilities).filter(possible) {
            last = Some(*token);
            left -= p;
            if left < 0.0 {
                break;
            }
        }
        last
    }

    /// Removes `token` and normalises the rest.
    pub fn remove(&mut self, token: u32) {
        if let Ok(i) = self.tokens.binary_search(&token) {
            self.probabilities[i] = 0.0;
            self.normalise();
        }
    }

    /// Replaces p by (p − q)⁺, normalised, where q is `other`; leaves p as it is if nothing would remain.
    pub fn subtract(&mut self, other: &Distribution) {
        let mut rest = self.clone();
        for (token, p) in rest.tokens.iter().zip(&mut rest.probabilities) {
            *p = (*p - other.of(*token)).max(0.0);
        }
        if rest.probabilities.iter().any(|p| *p > 0.0) {
            rest.normalise();
            *self = rest;
        }
    }

    /// Divides by the sum, unless it is 0.
    fn normalise(&mut self) {
        let sum: f64 = self.probabilities.iter().sum();
        if sum > 0.0 {
            self.probabilities.iter_mut().for_each(|p| *p /= sum);
        }
    }
}
