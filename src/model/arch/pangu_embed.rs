//! `pangu-embedded`: openPangu Embedded. Biases of all of attention.

use super::Arch;
use super::decoder::{self, BlockTensors, LLAMA};
use dovetail_kernels::cpu::RopeStyle;

pub(super) const ARCH: Arch = Arch {
    name: "pangu-embedded",
    config: |keys| keys.config(RopeStyle::Halves),
    weights: |c, source| decoder::weights(c, source, &TENSORS),
};

const TENSORS: BlockTensors = BlockTensors { qkv_biases: true, ..LLAMA };
