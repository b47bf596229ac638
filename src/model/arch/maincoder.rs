//! `maincoder`: Maincoder 1B. Each head of queries and keys is normed after RoPE.

use super::Arch;
use super::decoder::{self, BlockTensors, LLAMA};
use crate::model::block::QkNormPlace;
use dovetail_kernels::cpu::RopeStyle;

pub(super) const ARCH: Arch = Arch {
    name: "maincoder",
    config: |keys| keys.config(RopeStyle::Adjacent),
    weights: |c, source| decoder::weights(c, source, &TENSORS),
};

const TENSORS: BlockTensors = BlockTensors { qk_norm: Some(QkNormPlace::HeadsAfterRope), ..LLAMA };
