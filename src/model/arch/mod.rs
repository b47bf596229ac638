//! The architectures, one file each.
//!
//! To add one: write `arch/NAME.rs` with an [`Arch`] and give that a row in [`ARCHITECTURES`]; `docs/adding.md` has
//! the steps. Mathematics that no other architecture has becomes a field or a case in [`super::block`] or
//! [`super::Config`].

mod baichuan;
mod chatglm;
mod cohere2;
pub(crate) mod decoder;
mod ernie4_5;
mod exaone;
mod exaone4;
mod gemma;
mod gemma2;
mod gemma3;
mod gemma4;
mod glm4;
mod granite;
mod hunyuan_dense;
mod internlm2;
mod llama;
mod maincoder;
mod minicpm;
mod mistral3;
mod muse_glimmer;
mod olmo2;
mod openelm;
mod pangu_embed;
mod phi3;
mod qwen2;
mod qwen3;
mod seed_oss;
mod smollm3;
mod xverse;

use super::config::Config;
use super::keys::Keys;
use super::weights::{Source, Weights};
use crate::error::{Error, Result};
use crate::gguf::Gguf;

/// How an architecture is read.
#[derive(Clone, Copy)]
pub struct Arch {
    /// `general.architecture`.
    pub name: &'static str,
    /// Reads and checks the configuration.
    pub config: fn(&Keys) -> Result<Config>,
    /// Takes the weights.
    pub weights: fn(&Config, &mut Source) -> Result<Weights>,
}

/// All architectures that can be run.
pub static ARCHITECTURES: &[Arch] = &[
    baichuan::ARCH,
    chatglm::ARCH,
    cohere2::ARCH,
    ernie4_5::ARCH,
    exaone4::ARCH,
    exaone::ARCH,
    gemma2::ARCH,
    gemma3::ARCH,
    gemma4::ARCH,
    gemma::ARCH,
    glm4::ARCH,
    granite::ARCH,
    hunyuan_dense::ARCH,
    internlm2::ARCH,
    llama::ARCH,
    maincoder::ARCH,
    minicpm::ARCH,
    mistral3::ARCH,
    muse_glimmer::ARCH,
    olmo2::ARCH,
    openelm::ARCH,
    pangu_embed::ARCH,
    phi3::ARCH,
    qwen2::ARCH,
    qwen3::ARCH,
    qwen3::VISION,
    seed_oss::ARCH,
    smollm3::ARCH,
    xverse::ARCH,
];

/// The configuration of a model's file, of which nothing else is read.
///
/// # Errors
/// If the architecture is unknown, a key is missing or wrong, or there is no embedding.
pub(crate) fn config_of(gguf: &Gguf) -> Result<Config> {
    let arch = find(gguf, ARCHITECTURES)?;
    (arch.config)(&Keys::new(gguf, arch.name))
}

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
