//! Sequences that no slot holds any more, in memory: a later prompt may begin as one of them does.

use crate::speculate::stream::SavedStream;

/// A sequence with its keys and values as bytes.
type Saved = SavedStream<Vec<u8>>;

/// The sequences, up to a number of bytes. See the module.
#[derive(Default)]
pub(super) struct PrefixCache {
    /// The least recently used first.
    entries: Vec<Saved>,
    limit_bytes: usize,
}

impl PrefixCache {
    /// Sets the largest number of bytes, and drops what exceeds it.
    pub fn set_limit(&mut self, limit_bytes: usize) {
        self.limit_bytes = limit_bytes;
        self.evict();
    }

    /// Whether it can hold a sequence of so many bytes.
    pub fn can_hold(&self, bytes: usize) -> bool {
        bytes <= self.limit_bytes
    }

    /// The sequence behind whose first tokens the least of a prompt must be run, and the number of those tokens.
    pub fn find(&self, prompt: &[u32]) -> Option<(usize, usize)> {
        let all = self.entries.iter().map(|saved| saved.shared_with(prompt)).enumerate();
        all.max_by_key(|(_, shared)| *shared)
    }

    /// The sequence `i`, which becomes the most recently used one.
    pub fn get(&mut self, i: usize) -> &Saved {
        let saved = self.entries.remove(i);
        self.entries.push(saved);
        self.entries.last().expect("it was just added")
    }

    /// Adds a sequence, if it fits. Those that it stands for go, and the least recently used ones that no longer fit.
    pub fn insert(&mut self, saved: Saved) {
        if !self.can_hold(saved.bytes()) {
            return;
        }
        self.entries.retain(|other| saved.shared_with(other.prefix()) < other.cached);
        if !self.entries.iter().any(|other| other.shared_with(saved.prefix()) == saved.cached) {
            self.entries.push(saved);
        }
        self.evict();
    }

    fn evict(&mut self) {
        let mut bytes: usize = self.entries.iter().map(Saved::bytes).sum();
        let too_many = self.entries.iter().position(|saved| {
            let fits = bytes <= self.limit_bytes;
            bytes -= saved.bytes();
            fits
        });
        self.entries.drain(..too_many.unwrap_or(self.entries.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(tokens: &[u32], rows_bytes: usize) -> Saved {
        let (tokens, cached) = (tokens.to_vec(), tokens.len());
        Saved { tokens, cached, ..Saved::of_rows(vec![0; rows_bytes]) }
    }

    #[test]
    fn the_longest_prefix_is_found_and_the_oldest_entry_goes_first() {
        let mut cache = PrefixCache::default();
        cache.insert(saved(&[1], 0));
        assert!(!cache.can_hold(1) && cache.find(&[1]).is_none());
        cache.set_limit(340);
        for tokens in [&[1, 2, 3], &[1, 2, 4], &[5, 6, 7]] {
            cache.insert(saved(tokens, 100));
        }
        assert_eq!(cache.find(&[1, 2, 4, 9]), Some((1, 3)));
        assert_eq!(cache.get(1).tokens, [1, 2, 4]);
        // It was used last, so another one goes: 3 × 112 bytes fit.
        cache.insert(saved(&[8], 100));
        assert_eq!(cache.find(&[1, 2, 3]).map(|(_, common)| common), Some(2));
        assert_eq!(cache.find(&[5, 6, 7]).map(|(_, common)| common), Some(3));
        // What is longer replaces its prefix, and a prefix is not added.
        cache.insert(saved(&[8, 9], 100));
        cache.insert(saved(&[8], 100));
        let lengths: Vec<usize> = cache.entries.iter().map(|saved| saved.tokens.len()).collect();
        assert_eq!(lengths, [3, 3, 2]);
        // What is too large by itself leaves the others alone.
        cache.insert(saved(&[7], 1000));
        assert_eq!(cache.entries.len(), 3);
    }
}
