//! Stop strings in a stream of pieces.
//!
//! A stop string may begin in one piece and end in a later one, so text that could be the beginning
//! of one is held back until it is known not to be.

/// Finds the first stop string in a text that comes in pieces.
pub struct Stops<'a> {
    stops: &'a [String],
    held: String,
}

impl<'a> Stops<'a> {
    /// Looks for any of these, none of which is empty.
    pub fn new(stops: &'a [String]) -> Self {
        Stops { stops, held: String::new() }
    }

    /// Takes a piece; gives the text that may be shown, and whether a stop string follows it.
    pub fn push(&mut self, piece: &str) -> (String, bool) {
        self.held.push_str(piece);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop)).min() {
            self.held.truncate(at);
            return (std::mem::take(&mut self.held), true);
        }
        let could_begin = |at: &usize| {
            let tail = &self.held[*at..];
            self.stops.iter().any(|stop| stop.starts_with(tail))
        };
        let at = self.held.char_indices().map(|(at, _)| at).find(could_begin);
        let kept = self.held.split_off(at.unwrap_or(self.held.len()));
        (std::mem::replace(&mut self.held, kept), false)
    }

    /// What was held back when the text ended.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let stops: Vec<_> = stops.iter().map(|s| s.to_string()).collect();
        let mut filter = Stops::new(&stops);
        let mut text = String::new();
        for piece in pieces {
            let (shown, stopped) = filter.push(piece);
            text.push_str(&shown);
            if stopped {
                return (text, true);
            }
        }
        (text + &filter.finish(), false)
    }

    #[test]
    fn stops_are_found_across_pieces_and_beginnings_are_held() {
        assert_eq!(shown(&["User:"], &["Hi", "\nUs", "er", ": x"]), ("Hi\n".into(), true));
        assert_eq!(shown(&["User:"], &["Us", "ed"]), ("Used".into(), false));
        assert_eq!(shown(&["aab"], &["a", "a", "a", "b"]), ("a".into(), true));
        assert_eq!(shown(&["é!", "b"], &["é", "b"]), ("é".into(), true));
        assert_eq!(shown(&[], &["a", "b"]), ("ab".into(), false));
        let stops = ["end".to_owned()];
        assert_eq!(Stops::new(&stops).push("the e"), ("the ".into(), false));
    }

    proptest! {
        /// However a text is cut into pieces, what is shown is the text up to the first stop string.
        #[test]
        fn cuts_do_not_matter(pieces in prop::collection::vec("[abé]{0,3}", 0..12), stop in "[abé]{1,3}") {
            let pieces: Vec<_> = pieces.iter().map(String::as_str).collect();
            let text = pieces.concat();
            let expected = match text.split_once(&stop) {
                Some((before, _)) => (before.to_owned(), true),
                None => (text.clone(), false),
            };
            prop_assert_eq!(shown(&[&stop], &pieces), expected);
        }
    }
}
