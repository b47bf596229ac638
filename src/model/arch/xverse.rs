//! `xverse`: XVERSE. Llama's blocks.

use super::Arch;
use super::decoder::{self, LLAMA};
use dovetail_kernels::cpu::RopeStyle;

pub(super) const ARCH: Arch = Arch {
    name: "xverse",
    config: |keys| keys.config(RopeStyle::Adjacent),
    weights: |c, source| decoder::weights(c, source, &LLAMA),
};
