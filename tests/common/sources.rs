//! The sources as text, for the tests that read them.

use std::path::{Path, PathBuf};

#[derive(Clone)]
pub struct Source {
    /// Relative to the repository, with `/`.
    pub path: String,
    pub text: String,
}

/// All Rust files under `dir`.
pub fn sources(dir: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join(dir)];
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    assert!(!files.is_empty(), "{dir} has no sources");
    let source = |path: &PathBuf| Source {
        path: path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/"),
        text: std::fs::read_to_string(path).unwrap(),
    };
    files.iter().map(source).collect()
}

/// The code as it is: comments and the contents of strings and characters become spaces.
pub fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    while i < bytes.len() {
        let end = match bytes[i] {
            b'/' if bytes[i..].starts_with(b"//") => line_end(bytes, i),
            b'/' if bytes[i..].starts_with(b"/*") => comment_end(bytes, i),
            b'"' => string_end(bytes, i),
            b'r' if !out.ends_with(is_word) => raw_string_end(text, i).unwrap_or(i),
            b'\'' => character_end(text, i).unwrap_or(i),
            _ => i,
        };
        if end == i {
            // One whole character.
            let character = text[i..].chars().next().expect("i is inside the text");
            out.push(character);
            i += character.len_utf8();
        } else {
            out.extend(text[i..end].chars().map(|c| if c == '\n' { c } else { ' ' }));
            i = end;
        }
    }
    out
}

pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn line_end(bytes: &[u8], from: usize) -> usize {
    from + bytes[from..].iter().position(|b| *b == b'\n').unwrap_or(bytes.len() - from)
}

fn comment_end(bytes: &[u8], from: usize) -> usize {
    let (mut depth, mut i) = (0, from);
    while i < bytes.len() {
        let step = match &bytes[i..] {
            [b'/', b'*', ..] => 1,
            [b'*', b'/', ..] => -1,
            _ => 0,
        };
        depth += step;
        i += if step == 0 { 1 } else { 2 };
        if depth == 0 {
            break;
        }
    }
    i
}

fn string_end(bytes: &[u8], from: usize) -> usize {
    let mut i = from + 1;
    while i < bytes.len() && bytes[i] != b'"' {
        i += if bytes[i] == b'\\' { 2 } else { 1 };
    }
    (i + 1).min(bytes.len())
}

/// `r"…"`, `r#"…"#`.
fn raw_string_end(text: &str, from: usize) -> Option<usize> {
    let hashes = text[from + 1..].bytes().take_while(|b| *b == b'#').count();
    let start = from + 1 + hashes;
    text[start..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    Some(start + 1 + text[start + 1..].find(&close)? + close.len())
}

/// `'x'` or `'\n'`, not a lifetime.
fn character_end(text: &str, from: usize) -> Option<usize> {
    let mut rest = text[from + 1..].char_indices();
    let (_, first) = rest.next()?;
    if first == '\\' {
        rest.next();
        return rest.find(|(_, c)| *c == '\'').map(|(at, _)| from + at + 2);
    }
    rest.next().filter(|(_, c)| *c == '\'').map(|(at, _)| from + at + 2)
}
