//! Reads an answer with markers: what the model says, thoughts, and calls in brackets.

use serde_json::Value;

use super::bare::Bare;
use super::calls::{Call, TextArguments, calls};
use super::format::{AnswerFormat, Brackets, OpenThought, Style};
use super::markers::{first_marker, floor, held_back};
use super::open_call::{BARE, Ending, OpenCall};
use super::parts::Parts;

/// A parser of answers with markers.
#[derive(Clone, Debug)]
pub struct Marked {
    format: AnswerFormat,
    state: State,
    /// What was read and is not sure yet.
    pending: String,
    /// Whether white space is dropped until something else comes.
    skips_space: bool,
    /// Whether nothing was said yet.
    is_first: bool,
    /// What reads calls without brackets, where the format has brackets and the tools are known.
    bare: Option<Bare>,
}

/// Where the parser is.
#[derive(Clone, Debug)]
enum State {
    /// In what the model says.
    Content,
    /// In a thought that ends with this marker.
    Thought(&'static str),
    /// In a call.
    Call(OpenCall),
    /// Behind the only call, which no marker ended: the rest is dropped.
    End,
}

/// The most white space that is held back: it may end what is said, or may not.
const SPACE_BYTES: usize = 256;

impl Marked {
    /// A parser behind a prompt with this end.
    pub fn new(format: AnswerFormat, prompt_tail: &str) -> Self {
        let tail = prompt_tail.trim_end();
        let begun = format.thoughts.iter().find(|(begin, _)| tail.ends_with(begin));
        let state = begun.map_or(State::Content, |(_, end)| State::Thought(end));
        let skips_space = begun.is_some();
        Self { format, state, pending: String::new(), skips_space, is_first: true, bare: None }
    }

    /// Expects calls of these tools.
    pub fn expect_calls(&mut self, tools: &[Value]) {
        // Models that are to write JSON in brackets may leave the brackets out.
        let may_be_bare = self.format.style == Style::Hermes && !tools.is_empty();
        self.bare = may_be_bare.then(|| Bare::new(tools));
    }

    /// Goes on behind a text with which the answer begins.
    pub fn go_on_behind(&mut self, text: &str) {
        let mut said = text;
        if let Some(OpenThought { before, thought, end }) = self.format.open_thought(text) {
            (said, self.state) = (before, State::Thought(end));
            self.skips_space = thought.trim().is_empty();
        }
        self.is_first &= said.trim().is_empty();
    }

    /// Reads more.
    pub fn push(&mut self, text: &str, types: &TextArguments, out: &mut Parts) {
        self.pending.push_str(text);
        while self.step(types, out) {}
    }

    /// Reads up to the next marker. False if more text is needed.
    fn step(&mut self, types: &TextArguments, out: &mut Parts) -> bool {
        if self.skips_space {
            let space = self.pending.len() - self.pending.trim_start().len();
            self.pending.drain(..space);
            self.skips_space = self.pending.is_empty();
        }
        match &mut self.state {
            State::Content => match self.may_be_bare(out.one_call) {
                true => self.only_bare_call(out),
                false => self.content(out),
            },
            State::Thought(end) => {
                let end = *end;
                let found = self.pending.find(end);
                let sure = found.unwrap_or(self.pending.len() - held_back(&self.pending, &[end]));
                // White space at the end of a thought is not part of it.
                let sure = without_space(&self.pending[..sure]);
                out.reasoning(&self.pending[..sure]);
                self.pending.drain(..found.map_or(sure, |at| at + end.len()));
                if found.is_some() {
                    (self.state, self.skips_space) = (State::Content, true);
                }
                found.is_some()
            }
            State::Call(open) => match open.end(&self.pending, out.one_call) {
                Ending::Open => false,
                Ending::At { call, whole } => {
                    let is_marked = call.end < whole;
                    let body = &self.pending[call];
                    let found = calls(self.format.style, &open.body(body), types);
                    if found.is_none() && open.goes_on(body, whole) {
                        return true;
                    }
                    let is_last = found.is_some() && out.one_call && !is_marked;
                    self.close(found, whole, out);
                    if is_last {
                        self.state = State::End;
                    }
                    true
                }
                Ending::Never => {
                    // Only the marker is sure to be content.
                    self.close(None, 0, out);
                    true
                }
            },
            State::End => {
                self.pending.clear();
                false
            }
        }
    }

    /// Ends a call of `length` bytes: it is these calls, or content.
    fn close(&mut self, found: Option<Vec<Call>>, length: usize, out: &mut Parts) {
        let State::Call(open) = std::mem::replace(&mut self.state, State::Content) else { return };
        match found {
            Some(calls) => {
                calls.into_iter().for_each(|call| out.call(call));
                self.skips_space = true;
            }
            None => {
                self.is_first = false;
                out.content(&open.before);
                out.content(open.brackets.begin);
                out.content(&self.pending[..length]);
            }
        }
        self.pending.drain(..length);
    }

    /// Whether all that the model says may be calls without brackets.
    fn may_be_bare(&mut self, one_call: bool) -> bool {
        let bare = self.bare.as_mut().filter(|_| self.is_first);
        bare.is_some_and(|bare| bare.may_be(&self.pending, one_call))
    }

    /// Gives the first call without brackets once it is complete, if there may be one call at most. False if it is not.
    fn only_bare_call(&mut self, out: &mut Parts) -> bool {
        let bare = self.bare.as_mut().filter(|_| out.one_call);
        let Some(call) = bare.and_then(Bare::take_first) else { return false };
        out.call(call);
        self.state = State::End;
        true
    }

    fn content(&mut self, out: &mut Parts) -> bool {
        let style = self.format.style;
        let space = self.pending.len() - self.pending.trim_start().len();
        if style == Style::Llama3 && self.is_first && self.pending[space..].starts_with('{') {
            self.say(without_space(&self.pending[..space]), out);
            self.open(BARE, 0, 0);
            return true;
        }
        let thoughts = self.format.thoughts.iter().map(|(begin, _)| *begin);
        let calls = style.brackets().iter().map(|brackets| brackets.begin);
        let markers: Vec<&str> =
            thoughts.chain(calls).chain(style.silent().iter().copied()).collect();
        let found = first_marker(&self.pending, &markers);
        let sure = self.pending.len() - held_back(&self.pending, &markers);
        let before = found.map_or(sure, |(at, _)| at);
        // White space before a marker is not part of the content.
        let said = if markers.is_empty() { before } else { without_space(&self.pending[..before]) };
        self.say(said, out);
        let Some((at, i)) = found else { return false };
        let (space, end) = (at - said, at - said + markers[i].len());
        let n_thoughts = self.format.thoughts.len();
        if let Some(brackets) = i.checked_sub(n_thoughts).and_then(|i| style.brackets().get(i)) {
            self.open(*brackets, space, end);
            return true;
        }
        self.pending.drain(..end);
        self.skips_space = true;
        if let Some((_, end)) = self.format.thoughts.get(i) {
            self.state = State::Thought(end);
        }
        true
    }

    /// Gives the first `length` bytes as content.
    fn say(&mut self, length: usize, out: &mut Parts) {
        out.content(&self.pending[..length]);
        self.is_first &= self.pending[..length].trim().is_empty();
        self.pending.drain(..length);
    }

    /// Begins a call behind `space` bytes of white space and a marker that ends at `end`.
    fn open(&mut self, brackets: Brackets, space: usize, end: usize) {
        let before = self.pending[..space].to_owned();
        self.pending.drain(..end);
        self.state = State::Call(OpenCall::new(brackets, before));
    }

    /// Ends the answer.
    pub fn finish(&mut self, types: &TextArguments, out: &mut Parts) {
        if matches!(self.state, State::Content) && self.may_be_bare(out.one_call) {
            let calls = self.bare.take().map(|mut bare| bare.finish()).unwrap_or_default();
            match calls.is_empty() {
                true => self.push("", types, out),
                false => self.pending.clear(),
            }
            calls.into_iter().for_each(|call| out.call(call));
        }
        if let State::Call(open) = &self.state {
            let found = calls(self.format.style, &open.body(&self.pending), types);
            self.close(found, self.pending.len(), out);
        }
        match &self.state {
            State::Thought(_) => out.reasoning(&self.pending[..without_space(&self.pending)]),
            State::End => {}
            State::Content | State::Call(_) => out.content(&self.pending),
        }
        self.pending.clear();
    }
}

/// The length of a text without the white space at its end, of which at most [`SPACE_BYTES`] count.
fn without_space(text: &str) -> usize {
    let most = floor(text, text.len().saturating_sub(SPACE_BYTES));
    most + text[most..].trim_end().len()
}
