//! What enters the fusion: embeddings and features, normed.

use super::{Buffer, Launch, MAX_ROWS, Rows, launch};
use crate::draft::gpu::launch::matmul::HalfRows;
use bytemuck::{Pod, Zeroable};
use half::f16;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Args {
    rows: u64,
    table: u64,
    sent: u64,
    feature: u64,
    hidden: u64,
    token_norm: u64,
    feature_norm: u64,
    out_token: u64,
    out_feature: u64,
    width: u32,
    stride: u32,
    eps: f32,
    unused: u32,
}

/// Where embeddings and features come from.
#[derive(Clone, Copy)]
pub struct Sources {
    /// Embeddings of the draft vocabulary: (draft tokens, width), half floats.
    pub table: Buffer<f16>,
    /// Embeddings of entries: (MAX_ROWS, width), half floats.
    pub sent: Buffer<f16>,
    /// Features of entries: (MAX_ROWS, width).
    pub feature: Buffer<f32>,
    /// Hidden states that the last pass left: (MAX_ROWS, width).
    pub hidden: Buffer<f32>,
    /// RMSNorm of feature and embedding, if they are normed: (width) each.
    pub norms: Option<[Buffer<f32>; 2]>,
    pub width: usize,
    pub eps: f32,
}

/// Writes the embeddings to `out` and the features to its columns from `feature_at` on.
///
/// # Panics
/// Where lengths do not fit each other.
pub fn fuse(
    max_rows: usize,
    rows: Buffer<Rows>,
    from: Sources,
    out: HalfRows,
    feature_at: usize,
) -> Launch {
    let Sources { table, sent, feature, hidden, norms, width, eps } = from;
    assert!(max_rows <= MAX_ROWS && rows.len() == 1 && table.len() >= width, "rows");
    assert!(sent.len() >= max_rows * width && feature.len() >= max_rows * width, "entries");
    assert!(hidden.len() >= max_rows * width, "hidden states");
    assert!(
        feature_at.is_multiple_of(32) && feature_at >= width && out.stride >= feature_at + width,
        "side by side"
    );
    assert!(out.buffer.len() >= max_rows * out.stride, "rows");
    assert!(norms.is_none_or(|norms| norms.iter().all(|norm| norm.len() == width)), "norms");
    let [feature_norm, token_norm] = norms.map_or([0, 0], |norms| norms.map(|n| n.address()));
    let args = Args {
        rows: rows.address(),
        table: table.address(),
        sent: sent.address(),
        feature: feature.address(),
        hidden: hidden.address(),
        token_norm,
        feature_norm,
        out_token: out.buffer.address(),
        out_feature: out.columns(feature_at).buffer.address(),
        width: width as u32,
        stride: out.stride as u32,
        eps,
        unused: 0,
    };
    launch("fuse", [max_rows as u32, 1], 256, args)
}
