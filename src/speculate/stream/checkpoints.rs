//! Lengths to which a sequence can go back although layers with windows have lost what rows behind them see.

use std::sync::Arc;

/// The rows of layers with windows that a row behind the first `len` tokens sees.
#[derive(Clone)]
pub(crate) struct Checkpoint {
    pub len: usize,
    pub rows: Arc<[u8]>,
}

/// Checkpoints of a sequence, the shortest first, up to a number of bytes.
#[derive(Clone, Default)]
pub(crate) struct Checkpoints {
    all: Vec<Checkpoint>,
    limit_bytes: usize,
}

impl Checkpoints {
    /// None yet, for up to so many bytes.
    pub fn within(limit_bytes: usize) -> Checkpoints {
        Checkpoints { all: Vec::new(), limit_bytes }
    }

    /// Largest number of bytes.
    pub fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    /// Replaces all by those of another sequence.
    pub fn replace(&mut self, other: &Checkpoints) {
        self.all.clone_from(&other.all);
    }

    /// The last checkpoint of at most `len` tokens.
    pub fn last_within(&self, len: usize) -> Option<&Checkpoint> {
        self.all.iter().rfind(|checkpoint| checkpoint.len <= len)
    }

    /// Whether there is none from `distance` tokens before `len` on.
    pub fn are_far_from(&self, len: usize, distance: usize) -> bool {
        len >= distance && self.last_within(usize::MAX).is_none_or(|one| one.len + distance <= len)
    }

    /// Adds a checkpoint behind all others. While there are too many bytes, the one goes whose neighbours are closest
    /// to each other, but never the last.
    pub fn add(&mut self, checkpoint: Checkpoint) {
        self.all.push(checkpoint);
        while self.bytes() > self.limit_bytes && self.all.len() > 1 {
            let before = |i: usize| if i == 0 { 0 } else { self.all[i - 1].len };
            let gap = |i: &usize| self.all[i + 1].len - before(*i);
            let closest = (0..self.all.len() - 1).min_by_key(gap).expect("there are two");
            self.all.remove(closest);
        }
        self.all.truncate(if self.bytes() > self.limit_bytes { 0 } else { usize::MAX });
    }

    /// Drops those of more than `len` tokens.
    pub fn truncate(&mut self, len: usize) {
        self.all.retain(|checkpoint| checkpoint.len <= len);
    }

    pub fn bytes(&self) -> usize {
        self.bytes_within(usize::MAX)
    }

    /// Bytes of those of at most `len` tokens.
    pub fn bytes_within(&self, len: usize) -> usize {
        let within = self.all.iter().take_while(|checkpoint| checkpoint.len <= len);
        within.map(|checkpoint| checkpoint.rows.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_stay_apart_within_their_bytes() {
        let mut checkpoints = Checkpoints::within(40);
        let add = |checkpoints: &mut Checkpoints, len: usize| {
            checkpoints.add(Checkpoint { len, rows: vec![0; 10].into() });
            checkpoints.all.iter().map(|one| one.len).collect::<Vec<_>>()
        };
        for len in [10, 20, 30] {
            add(&mut checkpoints, len);
        }
        assert_eq!(add(&mut checkpoints, 100), [10, 20, 30, 100]);
        assert_eq!(add(&mut checkpoints, 110), [20, 30, 100, 110]);
        assert_eq!(add(&mut checkpoints, 200), [30, 100, 110, 200]);
        assert!(checkpoints.are_far_from(250, 50) && !checkpoints.are_far_from(250, 51));
        assert_eq!(checkpoints.last_within(199).map(|one| one.len), Some(110));
        checkpoints.truncate(30);
        assert_eq!((checkpoints.bytes(), checkpoints.all.len()), (10, 1));
        assert!(checkpoints.last_within(19).is_none());
    }
}
