//! The rows of a pass: where each stands and what it sees.

use crate::infer::kv::KvCache;
use crate::model::{Config, LayerKind};
use dovetail_kernels::cpu::Angles;
use dovetail_kernels::cpu::attention::View;

/// One row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// Where it stands in its sequence.
    pub position: usize,
    /// What it follows and itself, in the cache of its sequence; a window may hide the first of it.
    pub path: View,
}

impl Row {
    /// The row at `position` of a sequence.
    pub fn plain(position: usize) -> Row {
        Row { position, path: View::plain(position + 1) }
    }

    /// A node of the tree behind a sequence of `len` tokens: `mask` names its ancestors and itself.
    pub fn node(len: usize, mask: u64) -> Row {
        let path = View::tree(len, mask);
        Row { position: path.len() - 1, path }
    }
}

/// Successive rows that belong to one sequence: `n` of them, written to its cache from `first` on.
pub(crate) struct Span<'a> {
    pub kv: &'a mut KvCache,
    pub first: usize,
    pub n: usize,
}

/// What all layers of a kind share: (rows) each.
pub(crate) struct KindRows {
    pub views: Vec<View>,
    pub angles: Vec<Angles>,
}

impl KindRows {
    /// Room for so many rows.
    pub fn with_capacity(rows: usize) -> KindRows {
        KindRows { views: Vec::with_capacity(rows), angles: vec![Angles::default(); rows] }
    }

    /// Works out what the rows see in layers of each kind, and by how much they turn.
    pub fn set_all(kinds: &mut [KindRows], c: &Config, rows: &[Row]) {
        for (KindRows { views, angles }, LayerKind { window, rope }) in
            kinds.iter_mut().zip(&c.kinds)
        {
            views.clear();
            views.extend(rows.iter().map(|row| row.path.within(*window)));
            for (angles, row) in angles.iter_mut().zip(rows) {
                angles.set(row.position, &rope.frequencies, rope.factor);
            }
        }
    }
}

/// The rows of a pass as blocks are given them.
pub(crate) struct PassRows<'a, 's> {
    /// Of each of [`Config::kinds`].
    pub kinds: &'a [KindRows],
    /// The rows of each sequence, in order.
    pub spans: &'a mut [Span<'s>],
    /// What attention of block 0 reads in place of the hidden state: (rows, as wide as its matrices).
    pub given: Option<&'a [f32]>,
}
