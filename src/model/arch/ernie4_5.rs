//! `ernie4_5`: ERNIE 4.5 without experts, llama under another name.

use super::Arch;
use super::decoder::{self, LLAMA};
use dovetail_kernels::cpu::RopeStyle;

pub(super) const ARCH: Arch = Arch {
    name: "ernie4_5",
    config: |keys| keys.config(RopeStyle::Adjacent),
    weights: |c, source| decoder::weights(c, source, &LLAMA),
};
