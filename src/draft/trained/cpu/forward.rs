//! One pass of a trained drafter: rows of some sequences through its blocks and its heads.

use super::state::CpuState;
use super::weights::Weights;
use crate::draft::DraftJob;
use crate::draft::selector::NodeLogits;
use crate::draft::trained::file::{File, Fusion};
use crate::infer::{BufferSizes, Buffers, MAX_SEQUENCES, Pass, Row, Span};
use crate::model::Model;
use crate::tree::GrowingTree;
use dovetail_kernels::cpu::{Kernels, LANES, ProductScratch, ThreadPool, WeightMatrix};
use smallvec::SmallVec;
use std::ops::Range;

/// Largest number of rows of a pass.
pub const ROWS: usize = 128;

/// Buffers of passes.
pub struct Forward {
    buffers: Buffers,
    rows: Rows,
}

/// Inputs of the blocks: (rows, …) each.
struct Rows {
    tokens: Vec<u32>,
    wide: Vec<f32>,    // 2 H or width
    feature: Vec<f32>, // H
    token: Vec<f32>,   // H
    gate: Vec<f32>,    // H
    row: Vec<f32>,     // H, one row
    ones: Vec<f32>,    // H, one row
}

/// Waiting positions of a sequence that become entries in this pass.
struct PendingPositions<'a> {
    state: &'a mut CpuState,
    /// Number of positions.
    n: usize,
    /// The token after them, if a tree is grown there.
    last: Option<u32>,
    /// Whether candidates are proposed behind them.
    proposes: bool,
}

/// The rows of each sequence in a pass.
type Spans<'a> = SmallVec<[Span<'a>; MAX_SEQUENCES]>;
/// Ranges of logit rows, and the head of the tokens that their sequence has added.
type AddedHeads<'a> = SmallVec<[(Range<usize>, &'a WeightMatrix); MAX_SEQUENCES]>;

impl Forward {
    /// For sequences of up to `positions` slots, on `threads` threads.
    pub fn new(weights: &Weights, positions: usize, threads: usize) -> Forward {
        let Weights { file, target, .. } = weights;
        let h = file.config.n_embd;
        let wide = file.width.max(2 * h);
        let sizes = BufferSizes { rows: ROWS, positions, members: threads, width: wide };
        let products = || ProductScratch::for_matrices(file.matrices(target));
        let rows = |width: usize| vec![0.0; ROWS * width];
        Forward {
            buffers: Buffers::new(&file.config, &file.blocks, sizes, products),
            rows: Rows {
                tokens: Vec::with_capacity(ROWS),
                wide: rows(wide),
                feature: rows(h),
                token: rows(h),
                gate: rows(h),
                row: vec![0.0; h],
                ones: vec![1.0; h],
            },
        }
    }

    /// Turns the first `n` waiting positions into entries; more must wait behind them.
    pub fn take_in(
        &mut self,
        weights: &Weights,
        state: &mut CpuState,
        mut n: usize,
        pool: &mut ThreadPool,
    ) {
        while n > 0 {
            let some = n.min(ROWS);
            self.enter(
                weights,
                &mut [PendingPositions { state, n: some, last: None, proposes: false }],
                pool,
            );
            n -= some;
        }
    }

    /// Turns all waiting positions of growing trees into entries, and proposes candidates after the roots.
    pub fn run_roots(
        &mut self,
        weights: &Weights,
        jobs: &mut [DraftJob<CpuState>],
        pool: &mut ThreadPool,
    ) {
        let growing = jobs.iter_mut().filter(|job| job.tree.is_growing());
        let entering = growing.map(|job| {
            let (n, last) = (job.state.entries.waiting(), job.tokens.last().copied());
            let proposes = job.tree.n_forced() == 0;
            PendingPositions { state: &mut *job.state, n, last, proposes }
        });
        let mut entering: SmallVec<[PendingPositions; MAX_SEQUENCES]> = entering.collect();
        if entering.is_empty() {
            return;
        }
        self.enter(weights, &mut entering, pool);
        drop(entering);
        let growing = jobs.iter_mut().filter(|job| job.tree.is_growing());
        let proposing = growing.filter(|job| job.tree.n_forced() == 0);
        proposing.enumerate().for_each(|(row, job)| self.propose(weights, row, job, 0..1));
        // Each of the tokens that must follow goes on from the drafter's own output for the one before.
        let deepest = jobs.iter().map(|job| job.tree.n_forced()).max().unwrap_or(0);
        for depth in 1..=deepest {
            let node = |tree: &GrowingTree| match depth <= tree.n_forced() && tree.is_growing() {
                true => depth..depth + 1,
                false => 0..0,
            };
            self.run_nodes(weights, jobs, node, pool);
        }
    }

    /// Turns waiting positions into entries, each with the token after it: at least one of each sequence, and at most
    /// [`ROWS`] in all. It computes the logits of the last position of those that propose candidates there, one row for
    /// each of them.
    fn enter(&mut self, weights: &Weights, all: &mut [PendingPositions], pool: &mut ThreadPool) {
        let Forward { buffers, rows } = self;
        rows.tokens.clear();
        buffers.rows.clear();
        let mut ends: SmallVec<[usize; MAX_SEQUENCES]> = SmallVec::new();
        for PendingPositions { state, n, last, .. } in &*all {
            let (first, filled, n) = (rows.tokens.len(), state.entries.filled(), *n);
            let (features, tokens) = state.entries.first(n, *last);
            rows.tokens.extend(tokens);
            buffers.rows.extend((filled..).take(n).map(Row::plain));
            rows.put_features(&weights.file, weights.kernels, first, features);
            ends.push(first + n);
        }
        let (mut spans, mut more) = (Spans::new(), AddedHeads::new());
        let mut proposing: SmallVec<[usize; MAX_SEQUENCES]> = SmallVec::new();
        for (PendingPositions { state, n, proposes, .. }, end) in all.iter_mut().zip(&ends) {
            let CpuState { kv, entries, added, .. } = &mut **state;
            spans.push(Span { kv, first: entries.filled(), n: *n });
            if *proposes {
                let i = proposing.len();
                more.extend(added.head.iter().map(|head| (i..i + 1, head)));
                proposing.push(end - 1);
            }
        }
        let mut step = self.step(weights, &mut spans, pool);
        step.features();
        step.run(proposing.len(), |i| proposing[i], &more);
        drop((spans, more));
        let h = weights.file.config.n_embd;
        for (PendingPositions { state, n: entered, .. }, end) in all.iter_mut().zip(ends) {
            state.entries.fill(*entered);
            self.buffers.hidden(end - 1, &mut state.outputs[..h]);
        }
    }

    /// Runs the next levels of the growing trees, and proposes candidates after their nodes.
    pub fn run_level(
        &mut self,
        weights: &Weights,
        jobs: &mut [DraftJob<CpuState>],
        pool: &mut ThreadPool,
    ) {
        self.run_nodes(weights, jobs, GrowingTree::level, pool);
    }

    /// Runs some nodes of each frontier, whose parents were run, and proposes candidates after them.
    fn run_nodes(
        &mut self,
        weights: &Weights,
        mut jobs: &mut [DraftJob<CpuState>],
        nodes: impl Fn(&GrowingTree) -> Range<usize> + Copy,
        pool: &mut ThreadPool,
    ) {
        while !jobs.is_empty() {
            let mut rows = 0;
            let fit = jobs.iter().take_while(|job| {
                rows += nodes(job.tree).len();
                rows <= ROWS
            });
            let (some, rest) = jobs.split_at_mut(fit.count());
            self.run_some(weights, some, nodes, pool);
            jobs = rest;
        }
    }

    /// Runs nodes that fit one pass.
    fn run_some(
        &mut self,
        weights: &Weights,
        jobs: &mut [DraftJob<CpuState>],
        nodes: impl Fn(&GrowingTree) -> Range<usize>,
        pool: &mut ThreadPool,
    ) {
        let h = weights.file.config.n_embd;
        let Forward { buffers, rows } = self;
        rows.tokens.clear();
        buffers.rows.clear();
        for job in &*jobs {
            let (state, frontier) = (&*job.state, job.tree.frontier());
            for node in nodes(job.tree) {
                let r = rows.tokens.len();
                let parent = frontier.parent(node).expect("the root was run before");
                rows.tokens.push(frontier.tokens()[node]);
                buffers.rows.push(Row::node(state.root(), frontier.masks()[node]));
                rows.feature[r * h..][..h].copy_from_slice(&state.outputs[parent * h..][..h]);
            }
        }
        let n = rows.tokens.len();
        if n == 0 {
            return;
        }
        let (mut spans, mut more, mut first) = (Spans::new(), AddedHeads::new(), 0);
        // Behind a token that must be followed by another one nothing is proposed, so it needs no logits.
        let proposing = |tree: &GrowingTree| {
            let level = nodes(tree);
            level.start.max(tree.n_forced()).min(level.end)..level.end
        };
        let mut with_logits: SmallVec<[usize; ROWS]> = SmallVec::new();
        for job in jobs.iter_mut().filter(|job| job.tree.is_growing()) {
            let (root, level, asked) = (job.state.root(), nodes(job.tree), proposing(job.tree));
            let CpuState { kv, added, .. } = &mut *job.state;
            spans.push(Span { kv, first: root + level.start, n: level.len() });
            let (i, added) = (with_logits.len(), added.head.iter().filter(|_| !asked.is_empty()));
            more.extend(added.map(|head| (i..i + asked.len(), head)));
            with_logits.extend(asked.map(|node| first + node - level.start));
            first += level.len();
        }
        self.step(weights, &mut spans, pool).run(with_logits.len(), |i| with_logits[i], &more);
        drop((spans, more));
        let (mut first, mut logits) = (0, 0);
        for job in jobs.iter_mut().filter(|job| job.tree.is_growing()) {
            let (level, asked) = (nodes(job.tree), proposing(job.tree));
            for (r, node) in (first..).zip(level.clone()) {
                self.buffers.hidden(r, &mut job.state.outputs[node * h..][..h]);
            }
            first += level.len();
            logits += asked.len();
            self.propose(weights, logits - asked.len(), job, asked);
        }
    }

    /// Proposes candidates after some nodes, whose logits begin at row `first`.
    fn propose(
        &self,
        weights: &Weights,
        first: usize,
        job: &mut DraftJob<CpuState>,
        nodes: Range<usize>,
    ) {
        let own = weights.file.tokens.as_deref();
        let behind = own.map_or(0, |own| own.len().next_multiple_of(LANES));
        let DraftJob { tokens, state, tree, selector, constrained, .. } = job;
        let token = |i: u32| {
            let (Some(own), i) = (own, i as usize) else { return Some(i) };
            own.get(i).or_else(|| state.added.tokens.get(i.checked_sub(behind)?)).copied()
        };
        for (r, parent) in (first..).zip(nodes) {
            let (logits, kernels) = (self.buffers.logits.row(r), weights.kernels);
            let constraint = constrained.as_deref_mut().map(|constrained| (constrained, *tokens));
            let node = NodeLogits { parent, logits, kernels };
            if let Err(error) = selector.propose(tree, constraint, node, token) {
                return job.fail(error);
            }
        }
    }

    fn step<'a, 's>(
        &'a mut self,
        weights: &'a Weights,
        spans: &'a mut [Span<'s>],
        pool: &'a mut ThreadPool,
    ) -> ForwardPass<'a, 's> {
        let Weights { target, file, kernels, .. } = weights;
        let pass = Pass::new(&file.config, kernels, pool, &mut self.buffers, spans);
        ForwardPass { target, file, rows: &mut self.rows, pass }
    }
}

impl Rows {
    /// Copies the target's hidden states, (n, width), to rows `first..` of the features' input, normed if the file has
    /// such norms.
    fn put_features(&mut self, file: &File, kernels: &Kernels, first: usize, hidden: &[f32]) {
        let (width, eps) = (file.width, file.config.norm_eps);
        let out = match file.features {
            Some(_) => &mut self.wide[first * width..][..hidden.len()],
            None => &mut self.feature[first * width..][..hidden.len()],
        };
        let Some(norms) = file.features.as_ref().and_then(|features| features.norms.as_ref())
        else {
            return out.copy_from_slice(hidden);
        };
        let h = width / norms.len();
        let normed = hidden.chunks_exact(h).zip(out.chunks_exact_mut(h));
        for ((x, out), norm) in normed.zip(norms.iter().cycle()) {
            (kernels.rms_norm)(x, norm, eps, out);
        }
    }
}

/// One pass of the drafter.
struct ForwardPass<'a, 's> {
    target: &'a Model,
    file: &'a File,
    rows: &'a mut Rows,
    pass: Pass<'a, 's>,
}

impl ForwardPass<'_, '_> {
    /// Projects hidden states, (n, width), to features, (n, H).
    fn features(&mut self) {
        let (Some(features), width) = (&self.file.features, self.file.width) else { return };
        let Rows { wide, feature, .. } = &mut *self.rows;
        self.pass.multiply(&features.matrix, |r| &wide[r * width..][..width], feature);
    }

    /// Fuses the rows' features with their tokens, runs the blocks, and computes logits of `heads` rows; the `i`-th is
    /// `row(i)`.
    fn run(&mut self, heads: usize, row: impl Fn(usize) -> usize + Sync, more: &AddedHeads) {
        self.fuse();
        let ForwardPass { target, file, rows, pass } = self;
        let (h, Rows { wide, feature, .. }) = (file.config.n_embd, &**rows);
        for r in 0..pass.n_rows() {
            pass.set_hidden(r, &feature[r * h..][..h]);
        }
        let first_input = matches!(file.fusion, Fusion::Attention { .. }).then_some(&wide[..]);
        pass.blocks(&file.blocks, first_input);
        pass.head(file.output_norm.as_ref(), file.head(target), heads, row);
        if heads > 0 {
            pass.more_logits(more);
        }
    }

    /// Fuses features, (n, H), and tokens to the input of the blocks. For EAGLE-3, the input of the first attention is
    /// left in `wide`, (n, 2 H).
    fn fuse(&mut self) {
        let ForwardPass { target, file, rows, pass } = self;
        let (h, eps, n, kernels) =
            (file.config.n_embd, file.config.norm_eps, pass.n_rows(), pass.kernels);
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
            Fusion::CpuDrafter { feature: w1, token: w2, gate: wz } => {
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
