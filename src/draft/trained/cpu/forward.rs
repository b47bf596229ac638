//! One pass of a trained drafter: rows of some sequences through its blocks and its heads.

use super::State;
use crate::draft::DrafterContext;
use crate::draft::guesser::Level;
use crate::draft::trained::KIND;
use crate::draft::trained::entries::Entries;
use crate::draft::trained::file::{File, Fusion};
use crate::error::{Error, Result};
use crate::infer::{Buffers, CacheTypes, KvCache, MAX_SEQUENCES, Pass, Room, Span};
use crate::model::{Config, Model};
use crate::tree::MAX_NODES;
use dovetail_kernels::cpu::attention::View;
use dovetail_kernels::cpu::{Kernels, LANES, ProductScratch, ThreadPool, WeightMatrix};
use smallvec::SmallVec;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Most rows of a pass.
pub const ROWS: usize = 128;

/// What drafters of one family have in common.
pub struct Common {
    target: Arc<Model>,
    file: File,
    kernels: &'static Kernels,
    threads: usize,
    positions: usize,
    /// What no drafter uses now: a second one is made when two draft at the same time, on teams of their own.
    idle: Mutex<Vec<Work>>,
}

/// What passes work on.
pub struct Work {
    buffers: Buffers,
    rows: Rows,
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

/// A sequence whose tree begins.
pub struct Root<'a> {
    pub state: &'a mut State,
    /// Positions that it takes in.
    pub waiting: usize,
    /// The token after them; none if no tree is grown there yet.
    pub last: Option<u32>,
}

/// The rows of each sequence in a pass.
type Spans<'a> = SmallVec<[Span<'a>; MAX_SEQUENCES]>;
/// Rows of the logits, and the head of what their sequence has added.
type More<'a> = SmallVec<[(Range<usize>, &'a WeightMatrix); MAX_SEQUENCES]>;

impl Common {
    /// Reads the drafter's file.
    ///
    /// # Errors
    /// When it cannot be read or belongs to another target, or no kernels fit this machine.
    pub fn open(setup: &DrafterContext) -> Result<Common> {
        let path = setup.file(KIND.name)?;
        let kernels = Kernels::choose().map_err(Error::Invalid)?;
        let file = File::open(path, setup.target, setup.threads)?;
        let c = &file.config;
        let positions = setup.n_ctx + MAX_NODES;
        KvCache::check_memory(c, positions, CacheTypes::default(), 1)?;
        let common = Common {
            target: setup.target.clone(),
            file,
            kernels,
            threads: setup.threads,
            positions,
            idle: Mutex::new(Vec::with_capacity(1)),
        };
        common.give_back(common.new_work());
        Ok(common)
    }

    fn new_work(&self) -> Work {
        let Common { file, target, threads, positions, .. } = self;
        let h = file.config.n_embd;
        let wide = file.width.max(2 * h);
        let room = Room { rows: ROWS, positions: *positions, members: *threads, width: wide };
        let products = || ProductScratch::for_matrices(file.matrices(target));
        let rows = |width: usize| vec![0.0; ROWS * width];
        Work {
            buffers: Buffers::new(&file.config, room, products),
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

    pub fn config(&self) -> &Config {
        &self.file.config
    }

    pub fn fingerprint(&self) -> u64 {
        self.file.fingerprint
    }

    pub fn taps(&self) -> &[usize] {
        &self.file.taps
    }

    /// Slots of a sequence's cache.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// Those of a sequence of which nothing was told yet.
    pub fn entries(&self) -> Entries {
        Entries::new(self.file.width, self.file.spoken(&self.target))
    }

    /// The target's head for some tokens: (tokens, H).
    ///
    /// # Errors
    /// When one is not the target's.
    pub fn head_of(&self, tokens: &[u32]) -> Result<WeightMatrix> {
        self.target.head_of(tokens, self.threads)
    }

    /// What passes work on, to be [given back](Common::give_back).
    pub fn take_work(&self) -> Work {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.unwrap_or_else(|| self.new_work())
    }

    /// For the next passes.
    pub fn give_back(&self, work: Work) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(work);
    }

    /// Makes entries of the first `n` positions that wait, behind which others do.
    pub fn take_in(&self, state: &mut State, mut n: usize, pool: &mut ThreadPool) {
        let mut work = self.take_work();
        while n > 0 {
            let waiting = n.min(ROWS);
            self.begin(&mut work, &mut [Root { state, waiting, last: None }], pool);
            n -= waiting;
        }
        self.give_back(work);
    }

    /// Makes entries of positions that wait, one at least of each sequence and [`ROWS`] of all, each with the token after
    /// it. Where trees are grown the logits of the last ones follow, a row for each sequence.
    pub fn begin(&self, work: &mut Work, roots: &mut [Root], pool: &mut ThreadPool) {
        let Work { buffers, rows } = work;
        rows.tokens.clear();
        let mut ends: SmallVec<[usize; MAX_SEQUENCES]> = SmallVec::new();
        for Root { state, waiting: n, last } in &*roots {
            let (first, filled, n) = (rows.tokens.len(), state.entries.filled(), *n);
            let (features, tokens) = state.entries.first(n, *last);
            rows.tokens.extend(tokens);
            for (i, view) in buffers.views[first..first + n].iter_mut().enumerate() {
                *view = View::plain(filled + i + 1);
            }
            rows.put_features(&self.file, self.kernels, first, features);
            ends.push(first + n);
        }
        let n = rows.tokens.len();
        let (mut spans, mut more) = (Spans::new(), More::new());
        let heads = if roots.iter().all(|root| root.last.is_some()) { roots.len() } else { 0 };
        for (i, Root { state, waiting, .. }) in roots.iter_mut().enumerate() {
            let State { kv, entries, added, .. } = &mut **state;
            spans.push(Span { kv, first: entries.filled(), n: *waiting });
            more.extend(added.head.iter().map(|head| (i..i + 1, head)));
        }
        let mut step = self.step(work, &mut spans, pool, n);
        step.features();
        step.run(heads, |i| ends[i] - 1, &more);
        drop((spans, more));
        let h = self.file.config.n_embd;
        for (Root { state, waiting, .. }, end) in roots.iter_mut().zip(ends) {
            state.entries.fill(*waiting);
            work.buffers.hidden(n, end - 1, &mut state.outputs[..h]);
        }
    }

    /// Runs the next levels of trees whose roots were taken in last, and tells their logits; the members are these
    /// sequences.
    pub fn guess(
        &self,
        work: &mut Work,
        roots: &mut [Root],
        mut levels: &mut [Level],
        pool: &mut ThreadPool,
    ) {
        if levels.iter().all(|level| level.nodes.start == 0) {
            for level in levels {
                self.tell(work, level.member, roots[level.member].state, level);
            }
            return;
        }
        while !levels.is_empty() {
            let mut rows = 0;
            let fit = levels.iter().take_while(|level| {
                rows += level.nodes.len();
                rows <= ROWS
            });
            let fit = fit.count();
            let (some, rest) = std::mem::take(&mut levels).split_at_mut(fit);
            self.guess_some(work, roots, some, pool);
            levels = rest;
        }
    }

    /// Runs levels that fit one pass.
    fn guess_some(
        &self,
        work: &mut Work,
        roots: &mut [Root],
        levels: &mut [Level],
        pool: &mut ThreadPool,
    ) {
        let h = self.file.config.n_embd;
        let Work { buffers, rows } = work;
        rows.tokens.clear();
        for Level { member, frontier, nodes, .. } in &*levels {
            let state = &*roots[*member].state;
            for node in nodes.clone() {
                let r = rows.tokens.len();
                let parent = frontier.parent(node).expect("the root was run before");
                rows.tokens.push(frontier.tokens()[node]);
                buffers.views[r] = View::tree(state.root(), frontier.masks()[node]);
                rows.feature[r * h..][..h].copy_from_slice(&state.outputs[parent * h..][..h]);
            }
        }
        let n = rows.tokens.len();
        let (mut spans, mut more, mut first) = (Spans::new(), More::new(), 0);
        for (member, Root { state, .. }) in roots.iter_mut().enumerate() {
            let Some(level) = levels.iter().find(|level| level.member == member) else { continue };
            let (root, n) = (state.root(), level.nodes.len());
            let State { kv, added, .. } = &mut **state;
            spans.push(Span { kv, first: root + level.nodes.start, n });
            more.extend(added.head.iter().map(|head| (first..first + n, head)));
            first += n;
        }
        self.step(work, &mut spans, pool, n).run(n, |i| i, &more);
        drop((spans, more));
        let mut first = 0;
        for level in levels {
            let state = &mut *roots[level.member].state;
            for (r, node) in (first..).zip(level.nodes.clone()) {
                work.buffers.hidden(n, r, &mut state.outputs[node * h..][..h]);
            }
            self.tell(work, first, state, level);
            first += level.nodes.len();
        }
    }

    /// Tells the logits of a level, which begin at row `first`.
    fn tell(&self, work: &Work, first: usize, state: &State, level: &mut Level) {
        let own = self.file.tokens.as_deref();
        let behind = own.map_or(0, |own| own.len().next_multiple_of(LANES));
        let token = |i: u32| {
            let (Some(own), i) = (own, i as usize) else { return Some(i) };
            own.get(i).or_else(|| state.added.tokens.get(i.checked_sub(behind)?)).copied()
        };
        for (r, parent) in (first..).zip(level.nodes.clone()) {
            let logits = work.buffers.logits.row(r);
            if let Err(error) = level.guesses.add(self.kernels, parent, logits, token) {
                *level.grown = Err(error);
                return;
            }
        }
    }

    fn step<'a, 's>(
        &'a self,
        work: &'a mut Work,
        spans: &'a mut [Span<'s>],
        pool: &'a mut ThreadPool,
        n: usize,
    ) -> Step<'a, 's> {
        let (c, kernels) = (&self.file.config, self.kernels);
        let pass = Pass { c, kernels, pool, b: &mut work.buffers, spans, n };
        Step { target: &self.target, file: &self.file, rows: &mut work.rows, pass }
    }
}

impl Rows {
    /// Puts the target's hidden states of rows `first..`, (n, width), where they become features: normed if they
    /// are.
    fn put_features(&mut self, file: &File, kernels: &Kernels, first: usize, hidden: &[f32]) {
        let (width, eps) = (file.width, file.config.rms_eps);
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
struct Step<'a, 's> {
    target: &'a Model,
    file: &'a File,
    rows: &'a mut Rows,
    pass: Pass<'a, 's>,
}

impl Step<'_, '_> {
    /// Makes features of the hidden states that were put there: (n, width) to (n, H).
    fn features(&mut self) {
        let (Some(features), width) = (&self.file.features, self.file.width) else { return };
        let Rows { wide, feature, .. } = &mut *self.rows;
        self.pass.multiply(&features.matrix, |r| &wide[r * width..][..width], feature);
    }

    /// Fuses the features of the rows with their tokens and takes them through the blocks; the heads for
    /// `heads` rows, the `i`-th of which is `row(i)`.
    fn run(&mut self, heads: usize, row: impl Fn(usize) -> usize + Sync, more: &More) {
        self.fuse();
        let Step { target, file, rows, pass } = self;
        let (h, Rows { wide, feature, .. }) = (file.config.n_embd, &**rows);
        for r in 0..pass.n {
            pass.set_hidden(r, &feature[r * h..][..h]);
        }
        let given = if let Fusion::Attention { .. } = file.fusion { wide } else { feature };
        pass.blocks(&file.layers, given);
        pass.head(file.output_norm.as_deref(), file.head(target), heads, row);
        if heads > 0 {
            pass.more_logits(more);
        }
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
