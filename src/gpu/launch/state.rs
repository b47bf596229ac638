//! State of a round in the GPU's memory, kept between its launches.

use super::MAX_ROWS;
use bytemuck::{Pod, Zeroable};

/// The host's parameters of a round, written by `receive`. Width up to 63, up to 64 nodes.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct RoundParameters {
    /// Most draft tokens on a path.
    pub depth: u32,
    /// Draft tokens that are expanded on each level, and that each node proposes.
    pub width: u32,
    /// Most nodes of the tree, including the root.
    pub nodes: u32,
    /// Least log probability of a path.
    pub floor: f32,
    /// Number of tokens of the draft vocabulary.
    pub n_draft: u32,
    /// The root's token in the target's vocabulary.
    pub root_token: u32,
    /// The root's slot in the cache, which is also its position.
    pub root_slot: u32,
    pub unused: u32,
}

/// State between the launches of a round: see `Growth` in `grow.cu`. Only `grow` uses the fields beside `round`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct TreeShapeState {
    pub round: RoundParameters,
    pub(super) failed: u32,
    pub(super) n_frontier: u32,
    pub(super) n_best: u32,
    pub(super) unused: u32,
    pub(super) masks: [u64; MAX_ROWS],
    pub(super) paths: [f32; MAX_ROWS],
    pub(super) best_paths: [f32; MAX_ROWS],
    pub(super) best_tokens: [u32; MAX_ROWS],
    pub(super) best_parents: [u32; MAX_ROWS],
    pub(super) best_nodes: [u32; MAX_ROWS],
}
