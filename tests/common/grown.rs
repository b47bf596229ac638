//! Texts grown of bytes: each byte chooses what comes next. So what fuzzing changes stays mostly well formed.

/// What each symbol may be. `@` and a symbol in a form is one of that symbol's forms; the number says how many of the first
/// forms are chosen from where a text has become deep.
pub type Forms = &'static [(char, usize, &'static [&'static str])];

/// A symbol deeper than this, or behind this many bytes, takes one of its first forms.
const MAX_DEPTH: usize = 9;
const MAX_BYTES: usize = 20_000;

/// A text in the making.
pub struct Grown<'a> {
    /// The bytes that choose; behind them the first form is taken.
    pub choices: std::slice::Iter<'a, u8>,
    /// The text so far.
    pub out: String,
    forms: &'a [Forms],
}

impl<'a> Grown<'a> {
    /// A text that begins so.
    pub fn new(begin: &str, forms: &'a [Forms], bytes: &'a [u8]) -> Grown<'a> {
        Grown { choices: bytes.iter(), out: begin.to_owned(), forms }
    }

    /// Appends one of the forms of `symbol`.
    pub fn grow(&mut self, symbol: char) {
        self.grow_at(symbol, 0);
    }

    fn grow_at(&mut self, symbol: char, depth: usize) {
        let byte = self.choices.next().copied().unwrap_or(0);
        let mut all = self.forms.iter().flat_map(|forms| forms.iter());
        let row = all.find(|(name, ..)| *name == symbol);
        let (_, n_first, forms) = row.unwrap_or_else(|| panic!("there are no forms of {symbol}"));
        let is_large = depth > MAX_DEPTH || self.out.len() > MAX_BYTES;
        let n = if is_large { *n_first } else { forms.len() };
        let mut parts = forms[usize::from(byte) % n].split('@');
        self.out.push_str(parts.next().unwrap_or_default());
        for part in parts {
            let mut rest = part.chars();
            self.grow_at(rest.next().expect("a symbol follows"), depth + 1);
            self.out.push_str(rest.as_str());
        }
    }
}

/// One of the forms of `symbol`.
pub fn grown(symbol: char, forms: &[Forms], bytes: &[u8]) -> String {
    let mut text = Grown::new("", forms, bytes);
    text.grow(symbol);
    text.out
}
