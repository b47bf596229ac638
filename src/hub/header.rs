//! What a model's file says of itself.

use crate::draft;
use crate::error::Result;
use crate::gguf::Gguf;
use crate::model::arch::ARCHITECTURES;
use std::collections::BTreeMap;
use std::path::Path;

/// What a list of models shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// `general.architecture`.
    pub arch: String,
    /// How its weights are quantised: `Q4_K_M`.
    pub quantisation: String,
    /// Whether this library can run it, as a model or as a drafter.
    pub can_run: bool,
}

/// Reads and checks everything before the weights of a model, in all its files.
///
/// # Errors
/// If a file cannot be read, is no GGUF file, or is damaged or incomplete.
pub fn read(path: &Path) -> Result<Header> {
    let gguf = Gguf::open(path)?;
    let arch = gguf.metadata().require_str("general.architecture")?.to_owned();
    let can_run = ARCHITECTURES.iter().any(|known| known.name == arch) || draft::is_trained(&arch);
    let quantisation = match gguf.metadata().get_u32("general.file_type") {
        Ok(Some(file_type)) => file_type_name(file_type),
        _ => None,
    };
    let quantisation = quantisation.map_or_else(|| most_of(&gguf), str::to_owned);
    Ok(Header { arch, quantisation, can_run })
}

/// The type of most bytes of the weights.
fn most_of(gguf: &Gguf) -> String {
    let mut bytes: BTreeMap<&str, usize> = BTreeMap::new();
    for tensor in gguf.tensors() {
        *bytes.entry(tensor.type_name()).or_default() += tensor.bytes().len();
    }
    let most = bytes.into_iter().max_by_key(|(_, bytes)| *bytes);
    most.map_or_else(|| "none".into(), |(name, _)| name.to_uppercase())
}

/// Names of llama.cpp's mixtures of types, by `general.file_type`.
fn file_type_name(file_type: u32) -> Option<&'static str> {
    // Set where the converter has guessed it.
    const GUESSED: u32 = 1024;
    Some(match file_type & !GUESSED {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        19 => "IQ2_XXS",
        20 => "IQ2_XS",
        21 => "Q2_K_S",
        22 => "IQ3_XS",
        23 => "IQ3_XXS",
        24 => "IQ1_S",
        25 => "IQ4_NL",
        26 => "IQ3_S",
        27 => "IQ3_M",
        28 => "IQ2_S",
        29 => "IQ2_M",
        30 => "IQ4_XS",
        31 => "IQ1_M",
        32 => "BF16",
        36 => "TQ1_0",
        37 => "TQ2_0",
        38 => "MXFP4",
        _ => return None,
    })
}
