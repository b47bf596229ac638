//! `exaone`: EXAONE 3, llama with RoPE on halves.

use super::Arch;
use super::decoder::{self, LLAMA};
use dovetail_kernels::cpu::RopeStyle;

pub(super) const ARCH: Arch = Arch {
    name: "exaone",
    config: |keys| keys.config(RopeStyle::Halves),
    weights: |c, source| decoder::weights(c, source, &LLAMA),
};
