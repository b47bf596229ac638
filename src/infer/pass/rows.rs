//! The rows of a pass: the position of each and the positions it sees.

use crate::infer::kv::KvCache;
use crate::model::{Config, LayerKind};
use dovetail_kernels::cpu::Angles;
use dovetail_kernels::cpu::attention::View;

/// One row of a pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// Its position in the sequence.
    pub position: usize,
    /// The positions of its sequence's cache that lead to it, its own included; a window may hide the first of them.
    pub path: View,
}

impl Row {
    /// The row at `position` of a sequence.
    pub fn plain(position: usize) -> Row {
        Row { position, path: View::plain(position + 1) }
    }

    /// A node of the tree behind a sequence of `len` tokens; `mask` has a bit for it and for each ancestor.
    pub fn node(len: usize, mask: u64) -> Row {
        let path = View::tree(len, mask);
        Row { position: path.len() - 1, path }
    }
}

/// Successive rows of one sequence: `n` rows, written to its cache from position `first` on.
pub(crate) struct Span<'a> {
    pub kv: &'a mut KvCache,
    pub first: usize,
    pub n: usize,
}

/// Views and angles of the rows in all layers of one kind: (rows) each.
pub(crate) struct KindRows {
    pub views: Vec<View>,
    pub angles: Vec<Angles>,
    /// What queries are multiplied by; empty if by nothing.
    pub query_scales: Vec<f32>,
}

impl KindRows {
    /// With memory for `rows` rows.
    pub fn with_capacity(rows: usize) -> KindRows {
        KindRows {
            views: Vec::with_capacity(rows),
            angles: vec![Angles::default(); rows],
            query_scales: Vec::new(),
        }
    }

    /// Computes views and angles of the rows for each kind of layer, in a context of `n_ctx` tokens.
    pub fn set_all(kinds: &mut [KindRows], c: &Config, n_ctx: usize, rows: &[Row]) {
        for (kind_rows, kind) in kinds.iter_mut().zip(&c.kinds) {
            let KindRows { views, angles, query_scales } = kind_rows;
            let LayerKind { heads: _, window, rope, query_scale } = kind;
            views.clear();
            views.extend(rows.iter().map(|row| row.path.within(*window)));
            for (angles, row) in angles.iter_mut().zip(rows) {
                angles.set(row.position, rope.frequencies(n_ctx), rope.factor);
            }
            if let Some(query_scale) = query_scale {
                query_scales.clear();
                query_scales.extend(rows.iter().map(|row| query_scale.at(row.position)));
            }
        }
    }
}

/// The rows of a pass, as blocks read them.
pub(crate) struct PassRows<'a, 's> {
    /// One for each of [`Config::kinds`].
    pub kinds: &'a [KindRows],
    /// The rows of each sequence, in order.
    pub spans: &'a mut [Span<'s>],
    /// Embeddings for each block, if it has any: (rows, n_layers, n_embd_per_layer).
    pub per_layer: &'a [f32],
    /// Input of attention in block 0 in place of the hidden state: (rows, input width of its matrices).
    pub first_input: Option<&'a [f32]>,
}
