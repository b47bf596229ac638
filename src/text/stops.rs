//! Finds stop texts in a text that arrives in pieces.
//!
//! A stop text may begin in one piece and end in a later one, so text that could be the beginning of one is held back
//! until that is settled.

/// Finds the first stop text in a text.
#[derive(Clone, Debug, Default)]
pub struct Stops {
    /// Those that can be found, with their indices.
    stops: Vec<(usize, String)>,
    held: String,
}

impl Stops {
    /// Looks for any of these; empty ones are never found.
    pub fn new(stops: Vec<String>) -> Stops {
        let stops = stops.into_iter().enumerate().filter(|(_, stop)| !stop.is_empty());
        Stops { stops: stops.collect(), held: String::new() }
    }

    /// Takes a piece, and replaces it by the text that may be shown, which begins with what was held back. Returns the
    /// index of the stop text that follows, if one does: of those that begin first the shortest.
    pub fn push(&mut self, piece: &mut String) -> Option<usize> {
        if self.stops.is_empty() {
            return None;
        }
        self.held.push_str(piece);
        piece.clear();
        let place = |(i, stop): &(usize, String)| Some((self.held.find(stop)?, stop.len(), *i));
        if let Some((at, _, i)) = self.stops.iter().filter_map(place).min() {
            piece.push_str(&self.held[..at]);
            self.held.clear();
            return Some(i);
        }
        let could_begin = |at: &usize| {
            let tail = &self.held[*at..];
            self.stops.iter().any(|(_, stop)| stop.starts_with(tail))
        };
        let at = self.held.char_indices().map(|(at, _)| at).find(could_begin);
        let shown = at.unwrap_or(self.held.len());
        piece.push_str(&self.held[..shown]);
        self.held.drain(..shown);
        None
    }

    /// Appends the text that is held back, at the end of the text.
    pub fn finish(&mut self, piece: &mut String) {
        piece.push_str(&self.held);
        self.held.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is shown of the pieces, and which stop text ends them.
    fn shown(stops: &[&str], pieces: &[&str]) -> (String, Option<usize>) {
        let mut filter = Stops::new(stops.iter().map(|s| s.to_string()).collect());
        let mut text = String::new();
        for piece in pieces {
            let mut piece = piece.to_string();
            let stopped = filter.push(&mut piece);
            text.push_str(&piece);
            if stopped.is_some() {
                return (text, stopped);
            }
        }
        filter.finish(&mut text);
        (text, None)
    }

    #[test]
    fn stops_are_found_across_pieces_and_beginnings_are_held() {
        assert_eq!(shown(&["User:"], &["Hi", "\nUs", "er", ": x"]), ("Hi\n".into(), Some(0)));
        assert_eq!(shown(&["User:"], &["Us", "ed"]), ("Used".into(), None));
        assert_eq!(shown(&["aab"], &["a", "a", "a", "b"]), ("a".into(), Some(0)));
        assert_eq!(shown(&["é!", "b"], &["é", "b"]), ("é".into(), Some(1)));
        assert_eq!(shown(&["", "cd", "bcd", "bc"], &["abcd"]), ("a".into(), Some(3)));
        assert_eq!(shown(&[], &["a", "b"]), ("ab".into(), None));
        let mut piece = "the e".to_owned();
        assert_eq!(Stops::new(vec!["end".into(), String::new()]).push(&mut piece), None);
        assert_eq!(piece, "the ");
    }

    proptest! {
        /// However a text is cut into pieces, the text up to the first stop text is shown.
        #[test]
        fn cuts_do_not_matter(pieces in prop::collection::vec("[abé]{0,3}", 0..12), stop in "[abé]{1,3}") {
            let pieces: Vec<_> = pieces.iter().map(String::as_str).collect();
            let text = pieces.concat();
            let expected = match text.split_once(&stop) {
                Some((before, _)) => (before.to_owned(), Some(0)),
                None => (text.clone(), None),
            };
            prop_assert_eq!(shown(&[&stop], &pieces), expected);
        }
    }
}
