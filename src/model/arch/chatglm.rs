//! `chatglm`: ChatGLM 3 and GLM-4 of 2024. Fused matrices, biases, half of each head turns.

use super::Arch;
use super::decoder::{self, BlockTensors, LLAMA};
use dovetail_kernels::cpu::RopeStyle;

pub(super) const ARCH: Arch = Arch {
    name: "chatglm",
    config: |keys| keys.config(RopeStyle::Adjacent),
    weights: |c, source| decoder::weights(c, source, &TENSORS),
};

const TENSORS: BlockTensors = BlockTensors { fused_qkv: true, fused_gate_up: true, ..LLAMA };
