//! Bytes that a matrix reads and a shared owner keeps alive, usually a mapped file.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// A range of bytes that keeps their owner alive.
#[derive(Clone)]
pub struct SharedBytes {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    range: Range<usize>,
}

impl SharedBytes {
    /// The bytes `range` of `owner`; `None` if the range exceeds them.
    pub fn new(owner: Arc<dyn AsRef<[u8]> + Send + Sync>, range: Range<usize>) -> Option<Self> {
        (*owner).as_ref().get(range.clone())?;
        Some(Self { owner, range })
    }

    /// A part of them; `None` if the range exceeds them.
    pub fn part(&self, range: Range<usize>) -> Option<Self> {
        self.get(range.clone())?;
        let first = self.range.start;
        Some(Self { owner: self.owner.clone(), range: first + range.start..first + range.end })
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &(*self.owner).as_ref()[self.range.clone()]
    }
}

impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedBytes({:?})", self.range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_keeps_the_whole_alive_and_lies_inside_it() {
        let owner: Arc<dyn AsRef<[u8]> + Send + Sync> = Arc::new(vec![1u8, 2, 3, 4]);
        let part = SharedBytes::new(owner.clone(), 1..3).unwrap();
        for outside in [3..5, 5..6, usize::MAX..usize::MAX] {
            assert!(SharedBytes::new(owner.clone(), outside).is_none());
        }
        drop(owner);
        assert_eq!(&*part.clone(), [2, 3]);
        assert_eq!(&*part.part(1..2).unwrap(), [3]);
        assert!(part.part(1..3).is_none());
    }
}
