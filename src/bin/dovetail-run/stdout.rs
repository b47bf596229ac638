//! Text on standard output.

use dovetail::printable::for_terminal;
use dovetail::{Error, Result};
use std::io::{IsTerminal, Write};

/// The name of standard output in errors.
pub const STDOUT: &str = "standard output";

/// The terminal's code for green.
pub const GREEN: &str = "\x1b[32m";

/// The terminal's code for yellow.
pub const YELLOW: &str = "\x1b[33m";

/// The terminal's code that ends a colour.
const PLAIN: &str = "\x1b[0m";

/// Writes text to standard output at once, in a colour if one is given. For a terminal, control sequences are escaped.
pub fn emit(text: &str, colour: Option<&str>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let text = if out.is_terminal() { for_terminal(text) } else { text.into() };
    let written = match colour.filter(|_| !text.is_empty()) {
        Some(colour) => write!(out, "{colour}{text}{PLAIN}"),
        None => out.write_all(text.as_bytes()),
    };
    written.and_then(|()| out.flush()).map_err(|source| Error::Io { path: STDOUT.into(), source })
}
