//! The arguments of Gemma's calls: like JSON, with bare keys and with strings between marks of their own.

use serde_json::{Map, Value};

/// Most lists and objects in each other.
const DEPTH: usize = 64;

/// The name and the arguments of `call:name{key:value,…}`, where `quote` surrounds strings on both sides.
pub fn call(text: &str, quote: &str) -> Option<(String, Map<String, Value>)> {
    let rest = text.trim().strip_prefix("call:")?;
    let (name, _) = rest.split_once('{')?;
    let mut reader = Reader { rest: &rest[name.len()..], quote };
    match reader.value(DEPTH)? {
        Value::Object(arguments) if reader.rest.trim().is_empty() && !name.trim().is_empty() => {
            Some((name.trim().to_owned(), arguments))
        }
        _ => None,
    }
}

struct Reader<'a> {
    rest: &'a str,
    quote: &'a str,
}

impl<'a> Reader<'a> {
    /// Takes a text, and white space before it.
    fn take(&mut self, text: &str) -> Option<()> {
        self.rest = self.rest.trim_start().strip_prefix(text)?;
        Some(())
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        let depth = depth.checked_sub(1)?;
        if self.take(self.quote).is_some() {
            let (text, rest) = self.rest.split_once(self.quote)?;
            self.rest = rest;
            return Some(text.into());
        }
        if self.take("{").is_some() {
            let mut entries = Map::new();
            while self.take("}").is_none() {
                (entries.is_empty() || self.take(",").is_some()).then_some(())?;
                let key = self.key()?;
                entries.insert(key, self.value(depth)?);
            }
            return Some(entries.into());
        }
        if self.take("[").is_some() {
            let mut items = Vec::new();
            while self.take("]").is_none() {
                (items.is_empty() || self.take(",").is_some()).then_some(())?;
                items.push(self.value(depth)?);
            }
            return Some(items.into());
        }
        let (word, rest) = self.rest.split_at(self.rest.find([',', '}', ']'])?);
        self.rest = rest;
        serde_json::from_str(word.trim()).ok()
    }

    fn key(&mut self) -> Option<String> {
        let (key, rest) = self.rest.split_once(':')?;
        self.rest = rest;
        let key = key.trim();
        let quoted = key.strip_prefix(self.quote).and_then(|key| key.strip_suffix(self.quote));
        Some(quoted.unwrap_or(key).to_owned())
    }
}
