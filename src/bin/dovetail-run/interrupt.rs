//! Ctrl-C: the first one ends the answer, the second one the program, with exit code 130.
//!
//! If no answer is in progress, the first one ends the program; while a model is loaded, after unfinished files are
//! removed. A line editor that owns the terminal sees the key itself, and no signal is sent.

use dovetail::{Error, Result};
use signal_hook::consts::SIGINT;
use signal_hook::flag;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// The exit code of a program that Ctrl-C ended.
pub const EXIT_CODE: u8 = 130;

/// Whether the next Ctrl-C ends the program.
pub struct Interrupt {
    ends_program: Arc<AtomicBool>,
}

impl Interrupt {
    /// Takes over SIGINT; the next one ends the program.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn new() -> Result<Interrupt> {
        let ends_program = Arc::new(AtomicBool::new(true));
        // Handlers run in this order: the first one reads the flag before the second one sets it.
        flag::register_conditional_shutdown(SIGINT, i32::from(EXIT_CODE), ends_program.clone())
            .and_then(|_| flag::register(SIGINT, ends_program.clone()))
            .map_err(|e| Error::Invalid(format!("cannot handle Ctrl-C ({e}); run it elsewhere")))?;
        Ok(Interrupt { ends_program })
    }

    /// The next SIGINT only sets [`came`](Self::came).
    pub fn defer(&self) {
        self.ends_program.store(false, SeqCst);
    }

    /// The next SIGINT ends the program, as at first.
    pub fn end_program(&self) {
        self.ends_program.store(true, SeqCst);
    }

    /// Whether a SIGINT came since [`defer`](Self::defer).
    pub fn came(&self) -> bool {
        self.ends_program.load(SeqCst)
    }
}
