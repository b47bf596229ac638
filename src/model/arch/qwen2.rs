//! `qwen2`: Qwen2, Qwen2.5 and those made from them. Biases of queries, keys and values.

use super::Arch;
use super::decoder::{self, BlockTensors, LLAMA};
use dovetail_kernels::cpu::RopeStyle;

pub(super) const ARCH: Arch = Arch {
    name: "qwen2",
    config: |keys| keys.config(RopeStyle::Halves),
    weights: |c, source| decoder::weights(c, source, &TENSORS),
};

const TENSORS: BlockTensors = BlockTensors { qkv_biases: true, ..LLAMA };
