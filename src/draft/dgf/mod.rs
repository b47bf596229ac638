//! A trained drafter on the CPU: the target's features and the next tokens through a few decoder blocks.
//!
//! ```text
//! file.rs     what is trained, and how it lies in a GGUF file
//! entries.rs  what it was told of the sequence
//! spoken.rs   tokens that the text adds to the draft vocabulary
//! ```
//!
//! The step at position `i` takes the feature `f_i` of the target and the token `t_{i+1}` and guesses
//! `t_{i+2}`; deeper steps take the drafter's own output in place of the feature.
//!
//! ```text
//! a = W1 · norm(f)    b = silu(W2 · norm(E[t]))    z = sigmoid(Wz · [a; b])
//! h = blocks(z ⊙ a + (1 − z) ⊙ b)                  logits = head · norm(h)
//! ```
//!
//! EAGLE's drafters differ in how feature and embedding meet, [`Fusion`], and in which norms they have.
//!
//! Entries are in [`Entries`]; the last one, with the root of the tree for its token, is run when a tree is
//! grown, and rows of the tree follow it in the cache.
//!
//! # Source
//! Dovetail, arXiv 2412.18934, section "DGF"; EAGLE 1 to 3, arXiv 2401.15077, 2406.16858, 2503.01840.

mod entries;
mod file;
mod spoken;

pub(super) use entries::Entries;
pub(super) use file::{ARCHITECTURES, File, Fusion, target_of};
pub(super) use spoken::MOST;

use super::{Drafter, FileFrom, Guesser, Row, Setup};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::target::{Buffers, CacheTypes, KvCache, Pass, Room, Span};
use crate::tree::{Growth, MAX_NODES, Tree};
use dovetail_kernels::cpu::attention::View;
use dovetail_kernels::cpu::{Kernels, ProductScratch, Team};
use std::ops::Range;
use std::sync::Arc;

pub(super) const ROW: Row = Row {
    name: "dgf",
    growth: Growth { depth: 6, width: 1, nodes: 7 },
    p_min: 0.25,
    file: FileFrom::Shelf,
    open: super::placement::open,
};

/// Most rows of a pass; a level of a tree never has more.
const ROWS: usize = 128;

/// The drafter. See the module.
pub struct Dgf {
    target: Arc<Model>,
    file: File,
    kernels: &'static Kernels,
    kv: KvCache,
    buffers: Buffers,
    rows: Rows,
    entries: Entries,
    threads: usize,
    /// The blocks' output for each node of the tree that was run: (nodes, H).
    outputs: Vec<f32>,
}

/// Rows on their way to the blocks, (rows, …) each.
struct Rows {
    tokens: Vec<u32>,
    wide: Vec<f32>,    // 2 H or width
    feature: Vec<f32>, // H
    token: Vec<f32>,   // H
    gate: Vec<f32>,    // H
    row: Vec<f32>,     // H, one row
    ones: Vec<f32>,    // H, one row
}

impl Dgf {
    pub fn open(setup: &Setup) -> Result<Dgf> {
        let path = setup.file(ROW.name)?;
        let kernels = Kernels::choose().map_err(Error::Invalid)?;
        let file = File::open(path, setup.target, setup.threads)?;
        let c = &file.config;
        let (h, wide) = (c.n_embd, file.width.max(2 * c.n_embd));
        let positions = setup.n_ctx + MAX_NODES;
        KvCache::check_memory(c, positions, CacheTypes::default(), 1)?;
        let room = Room { rows: ROWS, positions, members: setup.threads, width: wide };
        let buffers =
            Buffers::new(c, room, || ProductScratch::for_matrices(file.matrices(setup.target)));
        let rows = |width: usize| vec![0.0; ROWS * width];
        Ok(Dgf {
            target: setup.target.clone(),
            kernels,
            kv: KvCache::new(c, positions, CacheTypes::default())?,
            buffers,
            rows: Rows {
                tokens: Vec::with_capacity(ROWS),
                wide: rows(wide),
                feature: rows(h),
                token: rows(h),
                gate: rows(h),
                row: vec![0.0; h],
                ones: vec![1.0; h],
            },
            entries: Entries::new(file.width, file.spoken(setup.target)),
            threads: setup.threads,
            outputs: vec![0.0; MAX_NODES * h],
            file,
        })
    }

    /// Runs the first `n` waiting positions, each with the token after it, `last` after the last one; the
    /// head for the last row if it is asked for.
    fn run_entries(&mut self, n: usize, last: Option<u32>, head: bool, team: &mut Team) {
        let mut left = n;
        while left > 0 {
            let rows = left.min(ROWS);
            left -= rows;
            let filled = self.entries.filled();
            let (features, tokens) = self.entries.first(rows, last);
            self.rows.tokens.clear();
            self.rows.tokens.extend(tokens);
            for (r, view) in self.buffers.views[..rows].iter_mut().enumerate() {
                *view = View::plain(filled + r + 1);
            }
            let mut step = Step {
                target: &self.target,
                file: &self.file,
                rows: &mut self.rows,
                pass: Pass {
                    c: &self.file.config,
                    kernels: self.kernels,
                    team,
                    b: &mut self.buffers,
                    spans: &mut [Span { kv: &mut self.kv, first: filled, n: rows }],
                    n: rows,
                },
            };
            step.features(features);
            let with_head = if head && left == 0 { rows - 1..rows } else { 0..0 };
            step.run(with_head);
            step.pass.hidden(rows - 1, &mut self.outputs[..self.file.config.n_embd]);
            self.entries.fill(rows);
        }
    }
}

impl Drafter for Dgf {
    fn taps(&self) -> &[usize] {
        &self.file.taps
    }

    fn commit(
        &mut self,
        first: usize,
        tokens: &[u32],
        features: &mut dyn Iterator<Item = &[f32]>,
        team: &mut Team,
    ) -> Result<()> {
        self.entries.commit(first, tokens, features);
        let n = self.entries.waiting();
        if n > MAX_NODES {
            self.run_entries(n - 1, None, false, team);
        }
        Ok(())
    }

    fn skip_to_last(&mut self, n: usize) {
        self.entries.skip_to_last(n);
    }

    fn expand(
        &mut self,
        tokens: &[u32],
        guesser: &mut Guesser,
        tree: &mut Tree,
        team: &mut Team,
    ) -> Result<()> {
        if let Some(spoken) = self.entries.due() {
            self.file.add_tokens(spoken, &self.target, self.threads)?;
        }
        if !self.entries.reach(tokens.len() - 1) {
            return Ok(());
        }
        self.run_entries(self.entries.waiting(), tokens.last().copied(), true, team);
        let root = self.entries.filled() - 1;
        let h = self.file.config.n_embd;
        let Dgf { target, file, kernels, kv, buffers, rows, outputs, .. } = self;
        guesser.grow(tree, |frontier, level, guesses| {
            if level.start > 0 {
                let n = level.len();
                rows.tokens.clear();
                rows.tokens.extend_from_slice(&frontier.tokens()[level.clone()]);
                for (r, node) in level.clone().enumerate() {
                    buffers.views[r] = View::tree(root, frontier.masks()[node]);
                    let parent = frontier.parent(node).expect("the root was run before");
                    rows.feature[r * h..][..h].copy_from_slice(&outputs[parent * h..][..h]);
                }
                let pass = Pass {
                    c: &file.config,
                    kernels,
                    team,
                    b: buffers,
                    spans: &mut [Span { kv, first: root + level.start, n }],
                    n,
                };
                let mut step = Step { target, file, rows, pass };
                step.run(0..n);
                for (r, node) in level.clone().enumerate() {
                    step.pass.hidden(r, &mut outputs[node * h..][..h]);
                }
            }
            for (r, parent) in level.enumerate() {
                let token = |i: u32| match &file.tokens {
                    Some(tokens) => tokens.get(i as usize).copied(),
                    None => Some(i),
                };
                guesses.add(kernels, parent, buffers.logits.row(r), token)?;
            }
            Ok(())
        })
    }
}

/// One pass of the drafter.
struct Step<'a> {
    target: &'a Model,
    file: &'a File,
    rows: &'a mut Rows,
    pass: Pass<'a, 'a>,
}

impl Step<'_> {
    /// Turns the target's hidden states into features: (n, width) to (n, H).
    fn features(&mut self, hidden: &[f32]) {
        let (width, eps) = (self.file.width, self.file.config.rms_eps);
        let Some(features) = &self.file.features else {
            self.rows.feature[..hidden.len()].copy_from_slice(hidden);
            return;
        };
        let Rows { wide, feature, .. } = &mut *self.rows;
        let mut states = hidden;
        if let Some(norms) = &features.norms {
            let h = width / norms.len();
            let normed = hidden.chunks_exact(h).zip(wide.chunks_exact_mut(h));
            for ((x, out), norm) in normed.zip(norms.iter().cycle()) {
                (self.pass.kernels.rms_norm)(x, norm, eps, out);
            }
            states = wide;
        }
        self.pass.multiply(&features.matrix, |r| &states[r * width..][..width], feature);
    }

    /// Fuses the features of the rows with their tokens and takes them through the blocks; the head for
    /// some of them.
    fn run(&mut self, with_head: Range<usize>) {
        self.fuse();
        let Step { target, file, rows, pass } = self;
        let (h, Rows { wide, feature, .. }) = (file.config.n_embd, &**rows);
        for r in 0..pass.n {
            pass.set_hidden(r, &feature[r * h..][..h]);
        }
        let given = if let Fusion::Attention { .. } = file.fusion { wide } else { feature };
        pass.blocks(&file.layers, given);
        pass.head(file.output_norm.as_deref(), file.head(target), with_head);
    }

    /// Makes of the features, (n, H), what enters the blocks; what attention of EAGLE-3's first one reads
    /// is left in `wide`, (n, 2 H).
    fn fuse(&mut self) {
        let Step { target, file, rows, pass } = self;
        let (h, eps, n, kernels) = (file.config.n_embd, file.config.rms_eps, pass.n, pass.kernels);
        let Rows { tokens, wide, feature, token, gate, row, ones, .. } = &mut **rows;
        // Embedding and feature side by side: (n, 2 H).
        for (r, pair) in wide.chunks_exact_mut(2 * h).take(n).enumerate() {
            let (e, f) = pair.split_at_mut(h);
            let x = &feature[r * h..][..h];
            file.embed(target, tokens[r], row);
            match &file.norms {
                Some([feature_norm, token_norm]) => {
                    (kernels.rms_norm)(row, token_norm, eps, e);
                    (kernels.rms_norm)(x, feature_norm, eps, f);
                }
                None => {
                    e.copy_from_slice(row);
                    f.copy_from_slice(x);
                }
            }
        }
        match &file.fusion {
            Fusion::Dgf { feature: w1, token: w2, gate: wz } => {
                pass.multiply(w1, |r| &wide[r * 2 * h + h..][..h], feature);
                pass.multiply(w2, |r| &wide[r * 2 * h..][..h], token);
                for (r, pair) in wide.chunks_exact_mut(2 * h).take(n).enumerate() {
                    let (a, b) = (&feature[r * h..][..h], &mut token[r * h..][..h]);
                    (kernels.swiglu)(b, ones);
                    pair[..h].copy_from_slice(a);
                    pair[h..].copy_from_slice(b);
                }
                pass.multiply(wz, |r| &wide[r * 2 * h..][..2 * h], gate);
                (kernels.gate)(&gate[..n * h], &mut feature[..n * h], &token[..n * h]);
            }
            Fusion::Fc { matrix, bias } => {
                pass.multiply(matrix, |r| &wide[r * 2 * h..][..2 * h], feature);
                if let Some(bias) = bias {
                    for row in feature.chunks_exact_mut(h).take(n) {
                        row.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
                    }
                }
            }
            Fusion::Attention { normed: true } => {
                for (f, pair) in feature.chunks_exact_mut(h).zip(wide.chunks_exact(2 * h)).take(n) {
                    f.copy_from_slice(&pair[h..]);
                }
            }
            Fusion::Attention { normed: false } => {}
        }
    }
}
