//! What a round keeps in the GPU's memory between its launches.

use super::MAX_ROWS;
use bytemuck::{Pod, Zeroable};

/// What the host says of a round: written by `receive`. Widths up to 63, up to 64 nodes.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct RoundParameters {
    /// Guesses on a path at most.
    pub depth: u32,
    /// Guesses that go on from each level, and that each node proposes.
    pub width: u32,
    /// Nodes of the tree, the root included.
    pub nodes: u32,
    /// Logarithm of the least probability of a path.
    pub floor: f32,
    /// Tokens of the draft vocabulary.
    pub n_draft: u32,
    /// The root's token, as the target has it.
    pub root_token: u32,
    /// The root's slot in the cache, and its position.
    pub root_slot: u32,
    pub unused: u32,
}

/// What is kept between the launches of a round: see `Growth` of `grow.cu`. Only `round` is anybody else's.
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
