//! Answers of gpt-oss: messages, each with a header that names its channel and to whom it is.
//!
//! `<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>commentary to=functions.name
//! <|constrain|>json<|message|>{…}<|call|>`

use super::calls::named;
use super::markers::{first_marker, held_back};
use super::parts::Parts;

const START: &str = "<|start|>";
const CHANNEL: &str = "<|channel|>";
const MESSAGE: &str = "<|message|>";
/// What ends a header or a message.
const MARKERS: [&str; 6] = [START, CHANNEL, MESSAGE, "<|end|>", "<|call|>", "<|return|>"];

/// Where the parser is.
#[derive(Clone, Debug)]
enum State {
    /// Between messages: a text there is content.
    Between,
    /// In a header.
    Header(String),
    /// In a message.
    Body(Kind),
}

#[derive(Clone, Debug)]
enum Kind {
    Reasoning,
    Content,
    /// A call of this function; its header and its arguments so far.
    Call {
        name: String,
        header: String,
        arguments: String,
    },
}

/// A parser of such answers.
#[derive(Clone, Debug)]
pub struct Harmony {
    state: State,
    pending: String,
}

impl Harmony {
    /// A parser behind a prompt with this end.
    pub fn new(prompt_tail: &str) -> Self {
        let mut state = State::Between;
        if let Some((_, header)) = prompt_tail.rsplit_once(START) {
            state = match header.split_once(MESSAGE) {
                Some((header, _)) => State::Body(kind(header)),
                None => State::Header(header.to_owned()),
            };
        }
        Self { state, pending: String::new() }
    }

    /// Reads more.
    pub fn push(&mut self, text: &str, out: &mut Parts) {
        self.pending.push_str(text);
        while let Some((at, i)) = first_marker(&self.pending, &MARKERS) {
            self.text(at, out);
            self.pending.drain(..MARKERS[i].len());
            self.marker(MARKERS[i], out);
        }
        self.text(self.pending.len() - held_back(&self.pending, &MARKERS), out);
    }

    /// Ends the answer.
    pub fn finish(&mut self, out: &mut Parts) {
        self.text(self.pending.len(), out);
        self.close(out);
    }

    /// Takes a text without markers.
    fn text(&mut self, length: usize, out: &mut Parts) {
        let text = &self.pending[..length];
        match &mut self.state {
            State::Between => out.content(text),
            State::Header(header) => header.push_str(text),
            State::Body(Kind::Reasoning) => out.reasoning(text),
            State::Body(Kind::Content) => out.content(text),
            State::Body(Kind::Call { arguments, .. }) => arguments.push_str(text),
        }
        self.pending.drain(..length);
    }

    fn marker(&mut self, marker: &str, out: &mut Parts) {
        match (marker, &mut self.state) {
            (CHANNEL, State::Header(header)) => header.push_str(CHANNEL),
            (MESSAGE, State::Header(header)) => self.state = State::Body(kind(header)),
            (START, _) => {
                self.close(out);
                self.state = State::Header(String::new());
            }
            (CHANNEL, _) => {
                self.close(out);
                self.state = State::Header(CHANNEL.to_owned());
            }
            _ => self.close(out),
        }
    }

    /// Ends a message. A header without a message is content, but for the role, which the prompt gives.
    fn close(&mut self, out: &mut Parts) {
        match std::mem::replace(&mut self.state, State::Between) {
            State::Header(header) => {
                out.content(header.strip_prefix("assistant").unwrap_or(&header));
            }
            State::Body(Kind::Call { name, header, arguments }) => match named(&name, &arguments) {
                Some(call) => out.call(call),
                None => [&header, MESSAGE, &arguments].into_iter().for_each(|t| out.content(t)),
            },
            State::Between | State::Body(Kind::Reasoning | Kind::Content) => {}
        }
    }
}

/// What a message with this header is.
fn kind(header: &str) -> Kind {
    let end = |c: char| c.is_whitespace() || c == '<';
    let behind = |marker: &str| {
        let (_, rest) = header.split_once(marker)?;
        Some(rest.split(end).next().unwrap_or_default())
    };
    match (behind("to=functions."), behind(CHANNEL)) {
        (Some(name), _) => {
            let (name, header) = (name.to_owned(), header.to_owned());
            Kind::Call { name, header, arguments: String::new() }
        }
        (None, Some("analysis")) => Kind::Reasoning,
        _ => Kind::Content,
    }
}
