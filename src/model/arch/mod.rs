//! The architectures, one file each.
//!
//! To add one: write `arch/NAME.rs` with an [`Arch`] and give that a row in [`ARCHITECTURES`]; `docs/adding.md` has
//! the steps. Mathematics that no other architecture has becomes a field or a case in [`super::block`] or
//! [`super::Config`].

pub(crate) mod llama;

use super::config::Config;
use super::weights::{Source, Weights};
use crate::error::{Error, Result};
use crate::gguf::Gguf;

/// How an architecture is read.
#[derive(Clone, Copy)]
pub struct Arch {
    /// `general.architecture`.
    pub name: &'static str,
    /// Reads and checks the configuration.
    pub config: fn(&Gguf) -> Result<Config>,
    /// Takes the weights.
    pub weights: fn(&Config, &mut Source) -> Result<Weights>,
}

/// All architectures that can be run.
pub static ARCHITECTURES: &[Arch] = &[llama::ARCH];

/// The architecture of a file, which has to be one of these.
pub(super) fn find<'a>(gguf: &Gguf, known: &'a [Arch]) -> Result<&'a Arch> {
    let name = gguf.metadata().require_str("general.architecture")?;
    known.iter().find(|arch| arch.name == name).ok_or_else(|| {
        let known: Vec<_> = known.iter().map(|arch| arch.name).collect();
        Error::Unsupported(format!(
            "{}: architecture `{name}` cannot be run yet; choose a model of: {}",
            gguf.path().display(),
            known.join(", ")
        ))
    })
}
