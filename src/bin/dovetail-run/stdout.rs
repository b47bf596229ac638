//! Text on standard output.

use crate::wrap::{self, Colour, Wrap};
use dovetail::printable::for_terminal;
use dovetail::{Error, Result};
use std::io::{IsTerminal, Write};

/// The name of standard output in errors.
pub const STDOUT: &str = "standard output";

/// The terminal's code for green.
pub const GREEN: &str = "\x1b[32m";

/// The terminal's code for yellow.
pub const YELLOW: &str = "\x1b[33m";

/// Writes text to standard output at once. On a terminal control characters are escaped, lines are broken between words,
/// and the text has a colour if one is given.
pub fn show(wrap: &mut Wrap, text: &str, colour: Colour) -> Result<()> {
    if !std::io::stdout().is_terminal() {
        return emit(text);
    }
    wrap.set_columns(wrap::columns());
    emit(&wrap.push(&for_terminal(text), colour))
}

/// Writes to standard output at once.
pub fn emit(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|source| Error::Io { path: STDOUT.into(), source })
}
