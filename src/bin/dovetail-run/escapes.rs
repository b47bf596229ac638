//! Escapes in texts that are typed.

/// Replaces the escapes that llama.cpp knows; unknown ones stay as they are.
pub fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let mut chars = after.chars();
        let known = match chars.next() {
            Some('n') => Some('\n'),
            Some('t') => Some('\t'),
            Some('r') => Some('\r'),
            Some(c @ ('\'' | '"' | '\\')) => Some(c),
            Some('x') => {
                let hex = after.get(1..3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
                let ascii = hex.filter(u8::is_ascii).map(char::from);
                chars = if ascii.is_some() { after[3..].chars() } else { chars };
                ascii
            }
            _ => None,
        };
        match known {
            Some(c) => {
                out.push(c);
                rest = chars.as_str();
            }
            None => {
                out.push('\\');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}
