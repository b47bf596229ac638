//! `openelm`: OpenELM. Each block has its own numbers of heads and width; queries, keys and values are one matrix.

use super::Arch;
use super::decoder::{self, BlockTensors, LLAMA};
use crate::model::block::QkNormPlace;
use dovetail_kernels::cpu::RopeStyle;

pub(super) const ARCH: Arch = Arch {
    name: "openelm",
    config: |keys| keys.config(RopeStyle::Halves),
    weights: |c, source| decoder::weights(c, source, &TENSORS),
};

const TENSORS: BlockTensors =
    BlockTensors { fused_qkv: true, qk_norm: Some(QkNormPlace::HeadsBeforeRope), ..LLAMA };
