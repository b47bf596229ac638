//! Positions of a sequence that a trained drafter was notified of.
//!
//! The drafter's cache has a row for each step: the *entry* of a position, in a slot counted from the first position
//! that was committed. An entry waits until the token after its position is known.

use super::dynamic_vocab::DynamicVocab;

/// Bytes of the numbers at the start of a saved state.
const HEADER: usize = 4 * size_of::<u64>();

/// Entries in a drafter's cache, and positions that wait to become entries.
pub(in crate::draft) struct Entries {
    /// Position of slot 0.
    start: usize,
    filled: usize,
    tokens: Vec<u32>,
    features: Vec<f32>, // (positions, width)
    width: usize,
    /// The sequence's dynamic vocabulary, if the draft vocabulary can grow.
    vocab: Option<DynamicVocab>,
}

impl Entries {
    /// No entries yet; features have length `width`.
    pub fn new(width: usize, vocab: Option<DynamicVocab>) -> Entries {
        Entries { start: 0, filled: 0, tokens: Vec::new(), features: Vec::new(), width, vocab }
    }

    /// Records positions `first..`; earlier records of these and of later positions are dropped.
    pub fn commit<'a>(
        &mut self,
        first: usize,
        tokens: &[u32],
        features: impl Iterator<Item = &'a [f32]>,
    ) {
        let joins = self.append(first, tokens, features);
        if let Some(vocab) = &mut self.vocab {
            if joins {
                vocab.commit(0, &[]);
            }
            vocab.commit(first, tokens);
        }
    }

    /// [`Entries::commit`] without the vocabulary. Returns whether positions before `first` are missing, so that the
    /// drafter's sequence starts at `first`.
    fn append<'a>(
        &mut self,
        first: usize,
        tokens: &[u32],
        features: impl Iterator<Item = &'a [f32]>,
    ) -> bool {
        let joins = first < self.start || first > self.end();
        if joins {
            (self.start, self.filled) = (first, 0);
            self.tokens.clear();
            self.features.clear();
        }
        self.rewind(first);
        self.tokens.extend_from_slice(tokens);
        features.for_each(|row| self.features.extend_from_slice(row));
        joins
    }

    /// Drops position `first` and later ones. The last entry that remains keeps the token that followed it; if that
    /// token has changed, drafts are accepted a little less often.
    pub fn rewind(&mut self, first: usize) {
        let first = first.max(self.start);
        self.filled = self.filled.min(first - self.start);
        let kept = first - self.start - self.filled;
        self.tokens.truncate(kept);
        self.features.truncate(kept * self.width);
    }

    /// Drops all but the last `n` waiting positions, if more wait; the drafter's sequence then starts there.
    pub fn skip_to_last(&mut self, n: usize) {
        if let Some(more) = self.waiting().checked_sub(n).filter(|more| *more > 0) {
            self.start = self.end() - n;
            self.filled = 0;
            self.tokens.drain(..more);
            self.features.drain(..more * self.width);
        }
    }

    /// Drops everything.
    pub fn forget(&mut self) {
        if let Some(vocab) = &mut self.vocab {
            vocab.commit(0, &[]);
        }
        *self = Entries::new(self.width, self.vocab.take());
    }

    /// Must be called when a tree is grown. Returns the tokens that must be added to the draft vocabulary first.
    pub fn due(&mut self) -> Option<impl Iterator<Item = u32>> {
        let vocab = self.vocab.as_mut()?;
        vocab.is_due().then_some(vocab.tokens())
    }

    /// Drops `last` and later positions. Returns whether positions up to the one before `last` wait, so that a tree can
    /// be grown there. If not, the drafter joins in the middle, or the sequence was cut, and the next round notifies it
    /// of more.
    pub fn reach(&mut self, last: usize) -> bool {
        self.rewind(last);
        self.waiting() > 0 && self.end() == last
    }

    /// The position behind all recorded ones.
    pub fn end(&self) -> usize {
        self.start + self.filled + self.tokens.len()
    }

    /// Number of filled slots.
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// Number of waiting positions.
    pub fn waiting(&self) -> usize {
        self.tokens.len()
    }

    /// Features of the first `n` waiting positions, (n, width), and the tokens after them; `last` is the token after
    /// all recorded ones.
    pub fn first(&self, n: usize, last: Option<u32>) -> (&[f32], impl Iterator<Item = u32>) {
        let tokens = self.tokens[1..].iter().copied().chain(last).take(n);
        (&self.features[..n * self.width], tokens)
    }

    /// The first waiting position, and the tokens and features of all waiting ones.
    pub fn rest(&self) -> (usize, &[u32], impl Iterator<Item = &[f32]>) {
        (self.start + self.filled, &self.tokens, self.features.chunks_exact(self.width))
    }

    /// Appends, all little-endian: the `fingerprint` of the drafter's file, the position of slot 0, the number of
    /// filled slots, and that of waiting positions, u64 each; then the tokens, u32, and features, f32, of the waiting
    /// positions. The caller appends the rows of the slots, as [`KvCache::write_rows`](crate::infer::KvCache) writes
    /// them, in half floats. The dynamic vocabulary follows from the tokens of the sequence.
    pub fn save(&self, fingerprint: u64, out: &mut Vec<u8>) {
        let numbers = [self.start, self.filled, self.tokens.len()].map(|n| n as u64);
        out.extend([fingerprint].iter().chain(&numbers).flat_map(|n| n.to_le_bytes()));
        out.extend(self.tokens.iter().flat_map(|token| token.to_le_bytes()));
        out.extend(self.features.iter().flat_map(|x| x.to_le_bytes()));
    }

    /// Restores what was saved, for the sequence of these tokens; positions behind them are dropped. Returns the number
    /// of slots that were filled, and their rows. Returns `None`, and leaves no entries, if the drafter of another file
    /// saved it, or it has more than `most` slots or other tokens.
    pub fn restore<'a>(
        &mut self,
        fingerprint: u64,
        tokens: &[u32],
        most: usize,
        state: &'a [u8],
    ) -> Option<(usize, &'a [u8])> {
        self.forget();
        let (header, rest) = state.split_at_checked(HEADER)?;
        let numbers: &[[u8; 8]] = header.as_chunks().0;
        let [found, start, filled, waiting] = [0, 1, 2, 3].map(|i| u64::from_le_bytes(numbers[i]));
        let [start, filled, waiting] = [start, filled, waiting].map(|n| n as usize);
        let (known, rest) = rest.split_at_checked(waiting.checked_mul(size_of::<u32>())?)?;
        let features = waiting.checked_mul(self.width)?.checked_mul(size_of::<f32>())?;
        let (features, rows) = rest.split_at_checked(features)?;
        if found != fingerprint || filled > most || start > tokens.len() {
            return None;
        }
        (self.start, self.filled) = (start, filled);
        self.tokens.extend(known.as_chunks().0.iter().map(|token| u32::from_le_bytes(*token)));
        self.features.extend(features.as_chunks().0.iter().map(|x| f32::from_le_bytes(*x)));
        self.rewind(tokens.len());
        if !tokens[(start + self.filled).min(tokens.len())..].starts_with(&self.tokens) {
            self.forget();
            return None;
        }
        if let Some(vocab) = &mut self.vocab {
            vocab.commit(start, &tokens[start..]);
        }
        Some((filled, rows))
    }

    /// Turns the first `n` waiting positions into entries.
    pub fn fill(&mut self, n: usize) {
        self.filled += n;
        self.tokens.drain(..n);
        self.features.drain(..n * self.width);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_wait_are_filled_and_forgotten() {
        let mut entries = Entries::new(2, None);
        let rows: Vec<[f32; 2]> = (0..8).map(|i| [i as f32, 0.5]).collect();
        let tell = |entries: &mut Entries, first: usize, tokens: &[u32]| {
            entries.append(
                first,
                tokens,
                rows[first..].iter().map(|row| &row[..]).take(tokens.len()),
            )
        };
        assert!(!tell(&mut entries, 0, &[10, 11, 12, 13]));
        let (features, tokens) = entries.first(4, Some(14));
        assert_eq!((features[2], features[7]), (1.0, 0.5));
        assert_eq!(tokens.collect::<Vec<_>>(), [11, 12, 13, 14]);
        assert_eq!(entries.first(3, None).1.collect::<Vec<_>>(), [11, 12, 13]);
        entries.fill(3);
        assert_eq!((entries.filled(), entries.waiting(), entries.end()), (3, 1, 4));
        assert_eq!(entries.first(1, Some(7)).0, [3.0, 0.5]);
        let (first, tokens, features) = entries.rest();
        assert_eq!(
            (first, tokens, features.collect::<Vec<_>>()),
            (3, &[13][..], vec![&[3.0, 0.5][..]])
        );

        entries.rewind(5);
        assert_eq!((entries.filled(), entries.waiting()), (3, 1), "there is nothing to forget");
        assert!(!tell(&mut entries, 2, &[20, 21]), "it goes on inside");
        assert_eq!((entries.filled(), entries.waiting()), (2, 2));
        assert_eq!(entries.first(2, Some(9)).0, [2.0, 0.5, 3.0, 0.5]);

        entries.skip_to_last(2);
        assert_eq!((entries.filled(), entries.waiting()), (2, 2), "no more wait");
        entries.skip_to_last(1);
        assert_eq!((entries.filled(), entries.waiting(), entries.end()), (0, 1, 4));
        assert_eq!(entries.first(1, Some(9)).0, [3.0, 0.5]);

        assert!(tell(&mut entries, 5, &[30]), "4 is unknown");
        assert_eq!((entries.filled(), entries.waiting(), entries.end()), (0, 1, 6));
        assert!(tell(&mut entries, 2, &[31]), "it begins at 5");
        entries.rewind(0);
        assert_eq!((entries.waiting(), entries.end()), (0, 2));
    }
}
