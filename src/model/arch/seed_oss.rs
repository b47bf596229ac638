//! `seed_oss`: Seed-OSS. Biases of queries, keys and values; the norm before the feed-forward layer has the name of one behind
//! attention.

use super::Arch;
use super::decoder::{self, BlockTensors, LLAMA};
use dovetail_kernels::cpu::RopeStyle;

pub(super) const ARCH: Arch = Arch {
    name: "seed_oss",
    config: |keys| keys.config(RopeStyle::Halves),
    weights: |c, source| decoder::weights(c, source, &TENSORS),
};

const TENSORS: BlockTensors =
    BlockTensors { qkv_biases: true, ffn_norm: Some("post_attention_norm"), ..LLAMA };
