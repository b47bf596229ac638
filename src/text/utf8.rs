//! Bytes of a stream to text that never splits a character.
//!
//! Tokens are byte strings: one may end inside a character that the next one completes. Invalid bytes become U+FFFD,
//! one for each maximal part of a sequence, so the text of all pieces equals `String::from_utf8_lossy` of all bytes.

/// Decodes UTF-8 piece by piece.
#[derive(Clone, Debug, Default)]
pub struct Utf8Stream {
    /// An incomplete character and, during `push`, the bytes after it.
    pending: Vec<u8>,
}

impl Utf8Stream {
    /// A stream with nothing pending.
    pub fn new() -> Self {
        // Longer than any token, so that the buffer does not grow during generation.
        Self { pending: Vec::with_capacity(256) }
    }

    /// Appends to `out` all characters that `bytes` complete, and keeps an incomplete one.
    pub fn push(&mut self, bytes: &[u8], out: &mut String) {
        self.pending.extend_from_slice(bytes);
        let mut seen = 0;
        let mut unfinished = 0;
        for chunk in self.pending.utf8_chunks() {
            out.push_str(chunk.valid());
            seen += chunk.valid().len() + chunk.invalid().len();
            if seen == self.pending.len() && may_continue(chunk.invalid()) {
                unfinished = chunk.invalid().len();
            } else if !chunk.invalid().is_empty() {
                out.push(char::REPLACEMENT_CHARACTER);
            }
        }
        let done = self.pending.len() - unfinished;
        self.pending.drain(..done);
    }

    /// Ends the stream: an incomplete character becomes U+FFFD. The stream can be used again.
    pub fn finish(&mut self, out: &mut String) {
        if !self.pending.is_empty() {
            out.push(char::REPLACEMENT_CHARACTER);
            self.pending.clear();
        }
    }
}

/// Whether more bytes could complete a character.
fn may_continue(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn streamed(pieces: &[Vec<u8>]) -> String {
        let mut stream = Utf8Stream::new();
        let mut out = String::new();
        pieces.iter().for_each(|piece| stream.push(piece, &mut out));
        stream.finish(&mut out);
        out
    }

    #[test]
    fn a_character_waits_for_its_last_byte() {
        let mut stream = Utf8Stream::new();
        let mut out = String::new();
        for (i, byte) in "é🙂".bytes().enumerate() {
            stream.push(&[byte], &mut out);
            assert_eq!(out, ["", "é", "é", "é", "é", "é🙂"][i]);
        }
        stream.push(&[0xf0, 0x9f], &mut out);
        stream.finish(&mut out);
        stream.push(b"!", &mut out);
        assert_eq!(out, "é🙂\u{fffd}!");
    }

    /// Bytes that often form, break and truncate sequences.
    fn tricky() -> impl Strategy<Value = Vec<u8>> {
        let text = "\\PC{0,3}".prop_map(String::into_bytes);
        let bytes = prop::collection::vec(
            prop::sample::select(
                &[0x80, 0xbf, 0xc2, 0xe0, 0xa0, 0xed, 0xf0, 0x90, 0xf4, 0xff, b'a'][..],
            ),
            0..5,
        );
        prop_oneof![text, bytes, prop::collection::vec(any::<u8>(), 0..5)]
    }

    proptest! {
        #[test]
        fn the_whole_equals_lossy_decoding(
            parts in prop::collection::vec(tricky(), 0..12),
            cut in 1usize..5,
        ) {
            let bytes = parts.concat();
            let pieces: Vec<Vec<u8>> = bytes.chunks(cut).map(<[u8]>::to_vec).collect();
            prop_assert_eq!(streamed(&pieces), String::from_utf8_lossy(&bytes));
            prop_assert_eq!(streamed(&parts), String::from_utf8_lossy(&bytes));
        }
    }
}
