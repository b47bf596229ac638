//! A cursor over untrusted bytes: little-endian, and every read is checked.
//!
//! The bytes may be those of a mapped file that somebody changes against the rules (`file.rs`). So whatever has to be valid
//! is copied first and the copy is checked.
//!
//! Errors are sentences without the file's name; whoever knows the path puts it in front.

/// A result whose error is a sentence about the bytes.
pub(super) type Parse<T> = Result<T, String>;

/// Longest name of a key or tensor: the format's own limit for keys.
const NAME_MAX_BYTES: usize = 65_535;

/// Reads forward through a byte slice.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Bytes not yet read: the upper bound for every length the file claims.
    pub(super) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `len` bytes.
    pub(super) fn take(&mut self, len: usize) -> Parse<&'a [u8]> {
        let end = self.at.checked_add(len).filter(|&end| end <= self.bytes.len());
        let Some(end) = end else {
            return Err(format!(
                "the file ends at byte {}, inside a value that starts at byte {}; \
                 download it again",
                self.bytes.len(),
                self.at
            ));
        };
        let bytes = &self.bytes[self.at..end];
        self.at = end;
        Ok(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Parse<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("take returns the length asked for"))
    }

    pub(super) fn u32(&mut self) -> Parse<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Parse<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A count of items that take at least `min_bytes` each, checked against what is left, so that
    /// no allocation made from it can exceed a small multiple of the file.
    pub(super) fn count(&mut self, min_bytes: usize, of: &str) -> Parse<usize> {
        let at = self.at;
        let n = self.u64()?;
        let most = self.remaining() / min_bytes;
        match usize::try_from(n) {
            Ok(n) if n <= most => Ok(n),
            _ => Err(format!(
                "byte {at} claims {n} {of}, but the rest of the file holds {most} at most; \
                 it is damaged or truncated, download it again"
            )),
        }
    }

    /// A length-prefixed byte string.
    pub(super) fn string(&mut self) -> Parse<&'a [u8]> {
        let len = self.count(1, "bytes of text")?;
        self.take(len)
    }

    /// A length-prefixed name: UTF-8, of bounded length.
    pub(super) fn name(&mut self, of: &str) -> Parse<String> {
        let at = self.at;
        let bytes = self.string()?;
        if bytes.len() > NAME_MAX_BYTES {
            return Err(format!("the {of} name at byte {at} is {} bytes long", bytes.len()));
        }
        String::from_utf8(bytes.to_vec())
            .map_err(|_| format!("the {of} name at byte {at} is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_stop_at_the_end() {
        let mut reader = Reader::new(&[1, 0, 0, 0, 9]);
        assert_eq!(reader.u32(), Ok(1));
        assert_eq!(reader.remaining(), 1);
        assert!(reader.u32().is_err());
        assert_eq!(reader.position(), 4, "a failed read does not move");
        assert!(reader.take(usize::MAX).is_err());
    }

    #[test]
    fn counts_are_bounded_by_the_bytes_left() {
        let mut bytes = 3u64.to_le_bytes().to_vec();
        bytes.extend([0; 11]);
        assert!(Reader::new(&bytes).count(4, "items").is_err());
        bytes.push(0);
        assert_eq!(Reader::new(&bytes).count(4, "items"), Ok(3));
        assert!(Reader::new(&u64::MAX.to_le_bytes()).string().is_err());
    }

    #[test]
    fn names_are_utf8() {
        let mut bytes = 2u64.to_le_bytes().to_vec();
        bytes.extend([0xff, 0xfe]);
        assert!(Reader::new(&bytes).name("key").unwrap_err().contains("not UTF-8"));
    }
}
