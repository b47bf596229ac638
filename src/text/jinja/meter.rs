//! The limits of a template: steps, bytes and depth. All costs are counted here.
//!
//! A rendering has one meter. It spends a step for each evaluated node of the program, each item, and each few bytes
//! that a function reads or writes. It holds the bytes of each value from before the value is created until it is
//! dropped. Both have a limit, so every template ends early.

use std::cell::Cell;
use std::rc::Rc;

use super::error::{Result, TemplateError};

/// The longest source of a template. Those of models have at most some 30 KB.
pub const SOURCE_BYTES: usize = 1 << 20;
/// Most nested brackets and blocks in a source.
pub const NESTING: usize = 100;
/// Most operators, filters and attributes in one tag, and most branches of one `if`.
pub const OPERATORS: usize = 1000;
/// Most nested lists.
pub const VALUE_DEPTH: u32 = 100;
/// Most nested blocks, calls and expressions under evaluation, each a frame of the stack.
pub const RECURSION: usize = 400;

/// The least limit of a rendering's steps.
const STEPS: u64 = 5_000_000;
/// The least limit of the bytes of all values of a rendering.
const BYTES: usize = 32 << 20;
/// Bytes that are read or written for one step.
const BYTES_PER_STEP: usize = 64;

/// The remaining steps, bytes and depth of a rendering.
pub struct Meter {
    steps: Cell<u64>,
    bytes: Cell<usize>,
    depth: Cell<usize>,
}

impl Meter {
    /// A meter for a rendering with this many given values and bytes: a long conversation gets higher limits than a
    /// short one.
    pub fn new(values: usize, bytes: usize) -> Rc<Self> {
        let steps = STEPS + 2_000 * values as u64 + 4 * bytes as u64;
        let bytes = BYTES + 16 * bytes;
        Rc::new(Self { steps: Cell::new(steps), bytes: Cell::new(bytes), depth: Cell::new(0) })
    }

    /// Counts one more frame of the stack until [`Meter::leave`]. A rendering ends at its first error, so a function
    /// that returns one need not leave.
    ///
    /// # Errors
    /// If there are [`RECURSION`] frames.
    #[inline]
    pub fn enter(&self) -> Result<()> {
        self.depth.set(self.depth.get() + 1);
        if self.depth.get() > RECURSION {
            return Err(TemplateError::new(format!(
                "it recurses more than {RECURSION} levels deep"
            )));
        }
        self.spend(1)
    }

    /// See [`Meter::enter`].
    #[inline]
    pub fn leave(&self) {
        self.depth.set(self.depth.get() - 1);
    }

    /// Takes steps.
    ///
    /// # Errors
    /// If none are left.
    #[inline]
    pub fn spend(&self, steps: usize) -> Result<()> {
        match self.steps.get().checked_sub(steps as u64) {
            Some(left) => {
                self.steps.set(left);
                Ok(())
            }
            None => {
                // Code that ignores the error still gets no further.
                self.steps.set(0);
                Err(TemplateError::new("it ran out of fuel: it takes too many steps"))
            }
        }
    }

    /// Leaves this many steps.
    #[cfg(test)]
    pub fn spend_all_but(&self, steps: usize) {
        self.steps.set(steps as u64);
    }

    /// Spends the steps for reading these bytes.
    ///
    /// # Errors
    /// If no steps are left.
    #[inline]
    pub fn read(&self, bytes: usize) -> Result<()> {
        self.spend(bytes / BYTES_PER_STEP)
    }

    /// Holds bytes until the result is dropped, and spends the steps for writing them.
    ///
    /// # Errors
    /// If no bytes or no steps are left.
    pub fn hold(self: &Rc<Self>, bytes: usize) -> Result<Held> {
        let mut held = Held { meter: self.clone(), bytes: 0 };
        held.grow(bytes)?;
        Ok(held)
    }
}

/// Bytes held from a meter, returned when this is dropped.
pub struct Held {
    meter: Rc<Meter>,
    bytes: usize,
}

impl Held {
    /// Holds more bytes.
    ///
    /// # Errors
    /// As for [`Meter::hold`].
    pub fn grow(&mut self, bytes: usize) -> Result<()> {
        let Some(left) = self.meter.bytes.get().checked_sub(bytes) else {
            return Err(TemplateError::new("its values take too much memory"));
        };
        self.meter.read(bytes)?;
        self.meter.bytes.set(left);
        self.bytes += bytes;
        Ok(())
    }

    /// Returns some of the bytes.
    pub fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.meter.bytes.set(self.meter.bytes.get() + bytes);
    }

    /// The meter that holds the bytes.
    pub fn meter(&self) -> &Rc<Meter> {
        &self.meter
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.meter.bytes.set(self.meter.bytes.get() + self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_back_and_steps_do_not() {
        let meter = Meter::new(0, 0);
        for _ in 0..8 {
            let mut held = meter.hold(BYTES - 10).unwrap();
            held.grow(10).unwrap();
            assert!(held.grow(1).is_err() && meter.hold(1).is_err());
        }
        assert_eq!(meter.bytes.get(), BYTES);
        assert_eq!(meter.steps.get(), STEPS - 8 * (BYTES / BYTES_PER_STEP - 1) as u64);
        assert!(meter.spend(STEPS as usize).is_err() && meter.spend(1).is_err());
        assert!(Meter::new(1, 0).spend(STEPS as usize + 1).is_ok());
    }
}
