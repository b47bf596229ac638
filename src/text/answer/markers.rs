//! Markers in a text that comes in pieces.

/// The first marker in a text: where it begins, and its index. The longest of those that begin there.
pub fn first_marker(text: &str, markers: &[&str]) -> Option<(usize, usize)> {
    let places = markers.iter().enumerate().filter_map(|(i, marker)| Some((text.find(marker)?, i)));
    places.min_by_key(|&(at, i)| (at, std::cmp::Reverse(markers[i].len())))
}

/// The number of bytes at the end of a text that may be the beginning of a marker.
pub fn held_back(text: &str, markers: &[&str]) -> usize {
    let longest = markers.iter().map(|marker| marker.len()).max().unwrap_or_default();
    let begin = text.len().saturating_sub(longest);
    let ends = (begin..text.len()).filter_map(|at| text.get(at..));
    ends.filter(|end| markers.iter().any(|marker| marker.starts_with(end)))
        .map(str::len)
        .max()
        .unwrap_or_default()
}

/// Where a search for a marker goes on after the text has grown: no marker begins before.
pub fn searched(text: &str, marker: &str) -> usize {
    floor(text, text.len().saturating_sub(marker.len()))
}

/// The last character that begins at this byte or before it.
pub fn floor(text: &str, at: usize) -> usize {
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default()
}

/// Finds the end of a JSON value in a text that grows.
#[derive(Clone, Debug, Default)]
pub struct JsonEnd {
    depth: usize,
    is_in_string: bool,
    is_escaped: bool,
    /// The bytes that were read.
    read: usize,
}

impl JsonEnd {
    /// Whether a text that begins with an object or a list ends within a string of it.
    pub fn is_in_string(text: &str) -> bool {
        let mut json = JsonEnd::default();
        json.find(text).is_none() && json.is_in_string
    }

    /// Reads on in `text`, which begins as it did before, with an object or a list: that ends at this byte.
    pub fn find(&mut self, text: &str) -> Option<usize> {
        if self.read > 0 && self.depth == 0 {
            return Some(self.read);
        }
        for byte in &text.as_bytes()[self.read..] {
            self.read += 1;
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' if self.is_in_string => self.is_escaped = true,
                b'"' => self.is_in_string = !self.is_in_string,
                _ if self.is_in_string => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(self.read);
                    }
                }
                _ => {}
            }
        }
        None
    }
}
