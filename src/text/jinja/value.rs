//! The values of a template. They do not change once they are made, so they cannot contain themselves. Namespaces and loops
//! change: they are objects of the heap, and a value only has their index.
//!
//! A value holds its bytes (see `meter`) and knows its depth. No value is deeper than [`VALUE_DEPTH`], so a function that
//! visits all of it, or drops it, needs little of the stack. A list knows whether a tuple of its items may be a key:
//! nested tuples that share their items would take too long to visit.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;

use super::error::{Result, TemplateError};
use super::meter::{Held, Meter, VALUE_DEPTH};
use super::spans::Spans;

/// A value; a copy shares what it holds.
#[derive(Clone)]
pub enum Value {
    /// The value of an unknown name.
    Undefined,
    /// Python's `None`.
    None,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Another number.
    Float(f64),
    /// A string.
    Text(Rc<Text>),
    /// A list, a tuple, or another value with items.
    List(Rc<List>),
    /// A dictionary.
    Map(Rc<Map>),
    /// A function that all templates find.
    Function(Function),
    /// An object of the heap, by its index.
    Object(usize),
}

/// A string.
pub struct Text {
    text: String,
    own: Spans,
    _held: Held,
}

impl Text {
    /// Its characters.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The bytes at which a part stands; `None` if this is no part of it.
    fn range_of(&self, part: &str) -> Option<Range<usize>> {
        let start = (part.as_ptr() as usize).checked_sub(self.text.as_ptr() as usize)?;
        let range = start..start + part.len();
        (range.end <= self.text.len()).then_some(range)
    }

    fn is_own(&self) -> bool {
        !self.text.is_empty() && self.own.covers(0..self.text.len())
    }
}

/// Python's type of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListKind {
    /// `[a, b]`
    List,
    /// `(a, b)`
    Tuple,
    /// A tuple of `grouper` and `list`.
    Group,
    /// The result of `map` and the like: it is true, has no length, and is read once.
    Iterator,
    /// The result of `dict.keys()` and the like, by the name of Python's type: it has a length but no indices.
    View(&'static str),
}

impl ListKind {
    /// Whether it is a tuple.
    pub fn is_tuple(self) -> bool {
        matches!(self, Self::Tuple | Self::Group)
    }

    /// Whether its items have indices.
    pub fn is_sequence(self) -> bool {
        matches!(self, Self::List | Self::Tuple | Self::Group)
    }
}

/// A list, or another value with items.
pub struct List {
    /// What it contains.
    pub items: Vec<Value>,
    /// Its type.
    pub kind: ListKind,
    /// The number of items that were read, if it is an iterator.
    n_read: Cell<usize>,
    depth: u32,
    has_hashable_items: bool,
    _held: Held,
}

impl List {
    /// Takes the next item of an iterator.
    pub fn next_item(&self) -> Option<Value> {
        let item = self.items.get(self.n_read.get())?.clone();
        self.n_read.set(self.n_read.get() + 1);
        Some(item)
    }

    /// Takes all remaining items of an iterator; returns the index of the first.
    pub fn take_rest(&self) -> usize {
        self.n_read.replace(self.items.len())
    }
}

/// A dictionary, in the order in which its keys came.
pub struct Map {
    /// Keys, all different, and values.
    pub entries: Vec<(Value, Value)>,
    depth: u32,
    _held: Held,
}

/// A function that all templates find.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Function {
    /// `range`
    Range,
    /// `dict`
    Dict,
    /// `namespace`
    Namespace,
    /// `joiner`
    Joiner,
    /// `cycler`
    Cycler,
    /// `raise_exception`
    RaiseException,
    /// `strftime_now`
    StrftimeNow,
    /// `self`, whose attributes are the template's blocks.
    Blocks,
    /// One of those, by its index in the program.
    Block(usize),
}

impl Function {
    /// The function of this name.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "range" => Self::Range,
            "dict" => Self::Dict,
            "namespace" => Self::Namespace,
            "joiner" => Self::Joiner,
            "cycler" => Self::Cycler,
            "raise_exception" => Self::RaiseException,
            "strftime_now" => Self::StrftimeNow,
            "self" => Self::Blocks,
            _ => return None,
        })
    }
}

/// The bytes that a value takes beside its contents.
const OVERHEAD: usize = 64;

impl Value {
    /// A copy of a text.
    ///
    /// # Errors
    /// As for [`Meter::hold`].
    pub fn text(meter: &Rc<Meter>, text: &str) -> Result<Self> {
        let held = meter.hold(OVERHEAD + text.len())?;
        Ok(Self::Text(Rc::new(Text { text: text.to_owned(), own: Spans::default(), _held: held })))
    }

    /// A copy of a text that is the template's own.
    ///
    /// # Errors
    /// As for [`Meter::hold`].
    pub fn literal(meter: &Rc<Meter>, text: &str) -> Result<Self> {
        let mut out = TextBuilder::new(meter)?;
        out.push_literal(text)?;
        Ok(out.finish())
    }

    /// A copy of a part of a text.
    ///
    /// # Errors
    /// As for [`Meter::hold`].
    pub fn part(meter: &Rc<Meter>, text: &Text, part: &str) -> Result<Self> {
        let mut out = TextBuilder::new(meter)?;
        out.push_part(text, part)?;
        Ok(out.finish())
    }

    /// A text made of another, with at most three times its bytes. It is the template's own if all of the other is.
    ///
    /// # Errors
    /// As for [`Meter::hold`].
    pub fn changed(
        meter: &Rc<Meter>,
        text: &Text,
        change: impl FnOnce(&str) -> String,
    ) -> Result<Self> {
        let room = meter.hold(3 * text.text.len())?;
        let changed = change(&text.text);
        drop(room);
        let own = if text.is_own() { Spans::all(changed.len()) } else { Spans::default() };
        let held = meter.hold(OVERHEAD + changed.len() + own.bytes())?;
        Ok(Self::Text(Rc::new(Text { text: changed, own, _held: held })))
    }

    /// Its type, for a message.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Undefined => "an undefined value",
            Self::None => "none",
            Self::Bool(_) => "a boolean",
            Self::Int(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(list) => match list.kind {
                ListKind::List => "a list",
                ListKind::Tuple | ListKind::Group => "a tuple",
                ListKind::Iterator => "an iterator",
                ListKind::View(_) => "a view of a dict",
            },
            Self::Map(_) => "a dict",
            Self::Function(_) => "a function",
            Self::Object(_) => "an object",
        }
    }

    /// A string.
    pub fn as_text(&self) -> Option<&Text> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The contents of a string.
    pub fn as_str(&self) -> Option<&str> {
        self.as_text().map(Text::as_str)
    }

    /// A whole number; `true` is 1.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            Self::Bool(value) => Some(i64::from(*value)),
            _ => None,
        }
    }

    /// Any number.
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(*value),
            _ => self.as_int().map(|value| value as f64),
        }
    }

    /// Python's truth of it.
    pub fn is_true(&self) -> bool {
        match self {
            Self::Undefined | Self::None => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Text(text) => !text.text.is_empty(),
            Self::List(list) => list.kind == ListKind::Iterator || !list.items.is_empty(),
            Self::Map(map) => !map.entries.is_empty(),
            Self::Function(_) | Self::Object(_) => true,
        }
    }

    /// Whether it is undefined.
    pub fn is_undefined(&self) -> bool {
        matches!(self, Self::Undefined)
    }

    /// The number of lists and dictionaries inside each other.
    fn depth(&self) -> u32 {
        match self {
            Self::List(list) => list.depth,
            Self::Map(map) => map.depth,
            _ => 0,
        }
    }

    /// The steps for reading all items or characters once, but not what the items contain.
    pub fn cost(&self) -> usize {
        match self {
            Self::Text(text) => text.text.len() / 16,
            Self::List(list) => list.items.len(),
            Self::Map(map) => map.entries.len(),
            _ => 0,
        }
    }
}

/// A string in the making.
pub struct TextBuilder {
    text: String,
    own: Spans,
    held: Held,
}

impl TextBuilder {
    /// An empty one.
    ///
    /// # Errors
    /// As for [`Meter::hold`].
    pub fn new(meter: &Rc<Meter>) -> Result<Self> {
        Ok(Self { text: String::new(), own: Spans::default(), held: meter.hold(OVERHEAD)? })
    }

    /// Appends a text that is not the template's own.
    ///
    /// # Errors
    /// As for [`Meter::hold`].
    pub fn push_str(&mut self, text: &str) -> Result<()> {
        self.held.grow(text.len())?;
        self.text.push_str(text);
        Ok(())
    }

    /// Appends a text that is the template's own.
    ///
    /// # Errors
    /// As for [`Meter::hold`].
    pub fn push_literal(&mut self, text: &str) -> Result<()> {
        let start = self.text.len();
        self.push_str(text)?;
        self.add_spans(|own| own.push(start..start + text.len()))
    }

    /// Appends a copy of a text.
    ///
    /// # Errors
    /// As for [`Meter::hold`].
    pub fn push_text(&mut self, text: &Text) -> Result<()> {
        self.push_part(text, &text.text)
    }

    /// Appends a copy of a part of a text; one that is a part of no text is not the template's own.
    ///
    /// # Errors
    /// As for [`Meter::hold`].
    pub fn push_part(&mut self, text: &Text, part: &str) -> Result<()> {
        let start = self.text.len();
        self.push_str(part)?;
        match text.range_of(part) {
            Some(range) => self.add_spans(|own| own.push_part(&text.own, range, start)),
            None => Ok(()),
        }
    }

    fn add_spans(&mut self, add: impl FnOnce(&mut Spans)) -> Result<()> {
        let before = self.own.bytes();
        add(&mut self.own);
        self.held.grow(self.own.bytes() - before)
    }

    /// Appends a character.
    ///
    /// # Errors
    /// As for [`Meter::hold`].
    pub fn push(&mut self, character: char) -> Result<()> {
        self.push_str(character.encode_utf8(&mut [0; 4]))
    }

    /// Appends a text repeatedly.
    ///
    /// # Errors
    /// As for [`Meter::hold`].
    pub fn repeat(&mut self, text: &str, times: usize) -> Result<()> {
        self.held.grow(text.len().saturating_mul(times))?;
        if !text.is_empty() {
            self.text.extend(std::iter::repeat_n(text, times));
        }
        Ok(())
    }

    /// Appends a text repeatedly. It is the template's own if all of the text is.
    ///
    /// # Errors
    /// As for [`Meter::hold`].
    pub fn repeat_text(&mut self, text: &Text, times: usize) -> Result<()> {
        let start = self.text.len();
        self.repeat(&text.text, times)?;
        let end = if text.is_own() { self.text.len() } else { start };
        self.add_spans(|own| own.push(start..end))
    }

    /// What has been appended.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text and what of it is the template's own, no longer counted.
    pub fn into_parts(self) -> (String, Spans) {
        (self.text, self.own)
    }

    /// The value.
    pub fn finish(self) -> Value {
        Value::Text(Rc::new(Text { text: self.text, own: self.own, _held: self.held }))
    }
}

/// A list in the making.
pub struct ListBuilder {
    items: Vec<Value>,
    depth: u32,
    has_hashable_items: bool,
    held: Held,
}

impl ListBuilder {
    /// An empty one.
    ///
    /// # Errors
    /// As for [`Meter::hold`].
    pub fn new(meter: &Rc<Meter>) -> Result<Self> {
        let held = meter.hold(OVERHEAD)?;
        Ok(Self { items: Vec::new(), depth: 1, has_hashable_items: true, held })
    }

    /// Appends a value.
    ///
    /// # Errors
    /// As for [`Meter::hold`], and when it is nested too deeply.
    pub fn push(&mut self, value: Value) -> Result<()> {
        self.held.grow(size_of::<Value>())?;
        self.held.meter().spend(1)?;
        self.depth = self.depth.max(deeper(&value)?);
        self.has_hashable_items &= is_hashable(&value);
        self.items.push(value);
        Ok(())
    }

    /// Appends copies of values.
    ///
    /// # Errors
    /// As for [`ListBuilder::push`].
    pub fn extend(&mut self, values: &[Value]) -> Result<()> {
        values.iter().try_for_each(|value| self.push(value.clone()))
    }

    /// What has been appended.
    pub fn items(&self) -> &[Value] {
        &self.items
    }

    /// The list.
    pub fn finish(self) -> Value {
        self.finish_as(ListKind::List)
    }

    /// The value of this type.
    pub fn finish_as(self, kind: ListKind) -> Value {
        Value::List(self.into_list(kind))
    }

    /// What a value of this type holds.
    pub fn into_list(self, kind: ListKind) -> Rc<List> {
        let Self { items, depth, has_hashable_items, held } = self;
        Rc::new(List { items, kind, n_read: Cell::new(0), depth, has_hashable_items, _held: held })
    }
}

/// A dictionary in the making. The caller makes sure that its keys are different.
pub struct MapBuilder {
    entries: Vec<(Value, Value)>,
    depth: u32,
    held: Held,
}

impl MapBuilder {
    /// An empty one.
    ///
    /// # Errors
    /// As for [`Meter::hold`].
    pub fn new(meter: &Rc<Meter>) -> Result<Self> {
        Ok(Self { entries: Vec::new(), depth: 1, held: meter.hold(OVERHEAD)? })
    }

    /// Appends a key that is not there yet.
    ///
    /// # Errors
    /// As for [`ListBuilder::push`], and when Python has no such keys.
    pub fn push(&mut self, key: Value, value: Value) -> Result<()> {
        if !is_hashable(&key) {
            return Err(TemplateError::new(format!("{} cannot be a key", key.kind())));
        }
        self.held.grow(2 * size_of::<Value>())?;
        self.held.meter().spend(1)?;
        self.depth = self.depth.max(deeper(&key)?).max(deeper(&value)?);
        self.entries.push((key, value));
        Ok(())
    }

    /// Replaces the value of the key at `index`.
    ///
    /// # Errors
    /// If it is nested too deeply.
    pub fn replace(&mut self, index: usize, value: Value) -> Result<()> {
        self.depth = self.depth.max(deeper(&value)?);
        self.entries[index].1 = value;
        Ok(())
    }

    /// What is there.
    pub fn entries(&self) -> &[(Value, Value)] {
        &self.entries
    }

    /// The dictionary.
    pub fn finish(self) -> Value {
        let Self { entries, depth, held } = self;
        Value::Map(Rc::new(Map { entries, depth, _held: held }))
    }
}

/// Whether a value may be the key of a dictionary.
pub fn is_hashable(value: &Value) -> bool {
    match value {
        Value::List(list) if list.kind.is_tuple() => list.has_hashable_items,
        Value::List(list) => list.kind == ListKind::Iterator,
        value => !matches!(value, Value::Map(_)),
    }
}

/// The depth of a list with this in it.
fn deeper(value: &Value) -> Result<u32> {
    let depth = value.depth() + 1;
    if depth > VALUE_DEPTH {
        return Err(TemplateError::new(format!(
            "a value is nested more than {VALUE_DEPTH} levels deep"
        )));
    }
    Ok(depth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_nested_so_deep_and_no_deeper() {
        let meter = Meter::new(0, 0);
        let mut value = Value::None;
        for depth in 1..=VALUE_DEPTH {
            let mut list = ListBuilder::new(&meter).unwrap();
            list.push(value).unwrap();
            value = list.finish();
            assert_eq!(value.depth(), depth);
        }
        assert!(ListBuilder::new(&meter).unwrap().push(value.clone()).is_err());
        assert!(MapBuilder::new(&meter).unwrap().push(Value::None, value).is_err());
    }

    #[test]
    fn what_is_made_is_held() {
        let meter = Meter::new(0, 0);
        let mut text = TextBuilder::new(&meter).unwrap();
        text.repeat("abc", 1000).unwrap();
        assert!(text.repeat("abc", usize::MAX / 2).is_err());
        text.repeat("", usize::MAX).unwrap();
        assert_eq!(text.as_str().len(), 3000);
        assert!(text.repeat("x", 40 << 20).is_err());
    }
}
