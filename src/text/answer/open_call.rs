//! A call in brackets that has begun: where it ends.

use std::ops::Range;

use super::format::{Brackets, End};
use super::markers::{JsonEnd, searched};

/// A call that has begun.
#[derive(Clone, Debug)]
pub struct OpenCall {
    /// What surrounds it.
    pub brackets: Brackets,
    /// White space before it.
    pub before: String,
    /// Where the search for the end goes on.
    at: usize,
    /// Where its JSON begins, and what was read of that.
    json: Option<(usize, JsonEnd)>,
}

/// What is known of the end of a call.
pub enum Ending {
    /// It is not there yet.
    Open,
    /// The call is these bytes, and has `whole` with its end marker.
    At { call: Range<usize>, whole: usize },
    /// It is no call.
    Never,
}

/// A JSON object without brackets.
pub const BARE: Brackets = Brackets { begin: "", end: End::Json };
/// The most white space before the first key of a call without brackets.
const SPACE_BYTES: usize = 256;
/// The longest name before `[ARGS]`.
const NAME_BYTES: usize = 256;

impl OpenCall {
    /// A call that begins behind white space.
    pub fn new(brackets: Brackets, before: String) -> Self {
        Self { brackets, before, at: 0, json: None }
    }

    /// The text of the call for what stands behind its marker.
    pub fn body(&self, pending: &str) -> String {
        let begin = self.brackets.begin;
        // `<function=` is a marker and part of the call.
        if begin == "<function=" {
            format!("{begin}{pending}</function>")
        } else {
            pending.to_owned()
        }
    }

    /// Looks for another end behind `at`, if the marker behind `body` stands in a string of its JSON.
    pub fn goes_on(&mut self, body: &str, at: usize) -> bool {
        let text = body.trim_start();
        let goes_on = text.starts_with(['{', '[']) && JsonEnd::is_in_string(text);
        if goes_on {
            self.at = at;
        }
        goes_on
    }

    /// The end of the call: that of its JSON or its marker, whichever comes first.
    pub fn end(&mut self, pending: &str, one_call: bool) -> Ending {
        let json = match self.json_begin(pending, one_call) {
            JsonBegin::Unknown => Ending::Open,
            JsonBegin::None => Ending::Never,
            JsonBegin::At(at) => self.json_end(pending, at),
        };
        let End::Marker(marker) = self.brackets.end else { return json };
        match (&json, self.marker_end(pending, marker)) {
            (Ending::At { .. }, Ending::Open) => json,
            (Ending::At { whole, .. }, Ending::At { call, .. }) if *whole <= call.end => json,
            (_, marked) => marked,
        }
    }

    /// Where the JSON begins whose end is the end of the call.
    fn json_begin(&self, pending: &str, one_call: bool) -> JsonBegin {
        if let Some((at, _)) = &self.json {
            return JsonBegin::At(*at);
        }
        // The first of several is complete by itself.
        let first = if one_call { first_in_list(pending) } else { JsonBegin::None };
        match (self.brackets.end, first) {
            (_, JsonBegin::Unknown) => JsonBegin::Unknown,
            (_, JsonBegin::At(at)) => JsonBegin::At(at),
            (End::Marker(_), JsonBegin::None) => JsonBegin::None,
            (End::Json, JsonBegin::None) => json_begin(pending, self.brackets == BARE),
            (End::Answer, JsonBegin::None) => {
                let text = pending.trim_start();
                match one_call && text.starts_with(['{', '[']) {
                    true => JsonBegin::At(pending.len() - text.len()),
                    false => JsonBegin::Unknown,
                }
            }
        }
    }

    /// The end of a call that ends with the JSON value which begins at `begin`.
    fn json_end(&mut self, pending: &str, begin: usize) -> Ending {
        let (at, json) = self.json.get_or_insert_with(|| (begin, JsonEnd::default()));
        json.find(&pending[*at..]).map_or(Ending::Open, |length| {
            let end = *at + length;
            // The first in a list is a call without the beginning of the list.
            let start = if pending[..*at].trim() == "[" { *at } else { 0 };
            Ending::At { call: start..end, whole: end }
        })
    }

    fn marker_end(&mut self, pending: &str, marker: &str) -> Ending {
        match pending[self.at..].find(marker) {
            Some(at) => {
                let end = self.at + at;
                Ending::At { call: 0..end, whole: end + marker.len() }
            }
            None => {
                self.at = self.at.max(searched(pending, marker));
                Ending::Open
            }
        }
    }
}

/// Where the JSON of a call begins.
enum JsonBegin {
    Unknown,
    None,
    At(usize),
}

/// Where the first object of a list begins.
fn first_in_list(pending: &str) -> JsonBegin {
    let Some(items) = pending.trim_start().strip_prefix('[') else { return JsonBegin::None };
    match items.trim_start() {
        "" => JsonBegin::Unknown,
        first if first.starts_with('{') => JsonBegin::At(pending.len() - first.len()),
        _ => JsonBegin::None,
    }
}

fn json_begin(pending: &str, is_bare: bool) -> JsonBegin {
    let begin = pending.len() - pending.trim_start().len();
    let text = &pending[begin..];
    if is_bare {
        // A call begins with its name or its type; all other JSON is content.
        let inside = text.strip_prefix('{').unwrap_or_default();
        let key = inside.trim_start();
        let starts = |whole: &str| key.starts_with(whole) || whole.starts_with(key);
        return match key {
            _ if inside.len() - key.len() > SPACE_BYTES => JsonBegin::None,
            _ if !starts("\"name\"") && !starts("\"type\"") => JsonBegin::None,
            key if key.len() < "\"name\"".len() => JsonBegin::Unknown,
            _ => JsonBegin::At(begin),
        };
    }
    if text.starts_with('[') {
        return JsonBegin::At(begin);
    }
    let name_bytes = pending.find("[ARGS]");
    match name_bytes.filter(|at| *at <= NAME_BYTES) {
        None if pending.len() > NAME_BYTES + "[ARGS]".len() => JsonBegin::None,
        None => JsonBegin::Unknown,
        Some(at) => {
            let arguments = &pending[at + "[ARGS]".len()..];
            match arguments.trim_start().chars().next() {
                None => JsonBegin::Unknown,
                Some('{') => JsonBegin::At(pending.len() - arguments.trim_start().len()),
                Some(_) => JsonBegin::None,
            }
        }
    }
}
