//! Which parts of a text the template itself wrote, as opposed to the values that it was given.
//!
//! Only literals of the template, and given values that count as such ([`super::Data::Own`]), are its own. What makes a text
//! of others keeps their spans where it copies parts as they are, and has none where it does anything else. So a function
//! that knows nothing of spans is safe: what it makes is not the template's own.

use std::ops::Range;

/// What a template has written.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// The parts of it that are the template's own.
    pub own: Spans,
}

/// Ranges of bytes in order, none next to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spans(Vec<Range<usize>>);

impl Spans {
    /// All of a text of `len` bytes.
    pub fn all(len: usize) -> Self {
        let mut spans = Self::default();
        spans.push(0..len);
        spans
    }

    /// Adds a range that begins where the last one ends, or behind it.
    pub fn push(&mut self, span: Range<usize>) {
        match self.0.last_mut() {
            _ if span.is_empty() => {}
            Some(last) if last.end == span.start => last.end = span.end,
            _ => self.0.push(span),
        }
    }

    /// Adds what `source` says about `range` of another text, as if that began at `at`.
    pub fn push_part(&mut self, source: &Spans, range: Range<usize>, at: usize) {
        let first = source.0.partition_point(|span| span.end <= range.start);
        for span in source.0[first..].iter().take_while(|span| span.start < range.end) {
            let (start, end) = (span.start.max(range.start), span.end.min(range.end));
            self.push(start - range.start + at..end - range.start + at);
        }
    }

    /// Whether all of this range, which is not empty, is the template's own.
    pub fn covers(&self, range: Range<usize>) -> bool {
        let index = self.0.partition_point(|span| span.end < range.end);
        self.0.get(index).is_some_and(|span| span.start <= range.start && range.end <= span.end)
    }

    /// Where the last given value ends in a text of `len` bytes: behind it all is the template's own.
    pub fn end_of_values(&self, len: usize) -> usize {
        self.0.last().filter(|span| span.end == len).map_or(len, |span| span.start)
    }

    /// Keeps what they say about the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.0.retain(|span| span.start < len);
        if let Some(last) = self.0.last_mut() {
            last.end = last.end.min(len);
        }
    }

    /// The bytes that they take.
    pub fn bytes(&self) -> usize {
        self.0.len() * size_of::<Range<usize>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each byte of a text by itself: `o` for the template's own.
    fn spans(bytes: &str) -> Spans {
        let mut spans = Spans::default();
        bytes.match_indices('o').for_each(|(at, _)| spans.push(at..at + 1));
        spans
    }

    #[test]
    fn spans_are_those_of_each_byte() {
        let texts: Vec<String> =
            (0..64).map(|bits| (0..6).map(|i| ["-", "o"][(bits >> i) & 1]).collect()).collect();
        for text in &texts {
            let found = spans(text);
            for start in 0..=6 {
                for end in start..=6 {
                    let part = &text[start..end];
                    if !part.is_empty() {
                        let is_own = !part.contains('-');
                        assert_eq!(found.covers(start..end), is_own, "{text} {start}..{end}");
                    }
                    let mut joined = spans("o-o");
                    joined.push_part(&found, start..end, 3);
                    assert_eq!(joined, spans(&format!("o-o{part}")), "{text} {start}..{end}");
                }
            }
        }
        for text in &texts {
            for len in 0..=6 {
                let mut found = spans(&text[..len]);
                let end = text[..len].trim_end_matches('o').len();
                assert_eq!(found.end_of_values(len), end, "{text}");
                found = spans(text);
                found.truncate(len);
                assert_eq!(found, spans(&text[..len]));
            }
        }
        assert_eq!(Spans::all(3), spans("ooo"));
        assert_eq!(Spans::all(0), Spans::default());
    }
}
