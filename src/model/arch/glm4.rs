//! `glm4`: GLM-4. Norms behind both branches, biases, gate and up in one matrix; a part of each head turns.

use super::Arch;
use super::decoder::{self, BlockTensors, LLAMA};
use dovetail_kernels::cpu::RopeStyle;

pub(super) const ARCH: Arch = Arch {
    name: "glm4",
    config: |keys| keys.config(RopeStyle::Adjacent),
    weights: |c, source| decoder::weights(c, source, &TENSORS),
};

const TENSORS: BlockTensors = BlockTensors {
    qkv_biases: true,
    post_attn_norm: Some("post_attention_norm"),
    post_ffn_norm: Some("post_ffw_norm"),
    fused_gate_up: true,
    ..LLAMA
};
