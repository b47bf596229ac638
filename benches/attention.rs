//! Attention of the n nodes of a tree over a context, against ggml's flash attention in the same run.
//!
//! The shape is that of an 8B model: 32 query heads, 8 KV heads, 128 elements. Both sides start from
//! rotated queries in memory and end with rows of results; bytes are those of keys and values. The
//! rival needs `--features rival` (it compiles ggml's CPU backend):
//!
//! ```sh
//! cargo bench --bench attention --features rival              # all
//! cargo bench --bench attention --features rival -- '4096 x 16'
//! DOVETAIL_THREADS=1 cargo bench --bench attention
//! ```

mod common;

#[cfg(not(feature = "rival"))]
use common::NoRival;
use common::random::Random;
use common::{Bench, Load, Side};
use criterion::Criterion;
use dovetail_kernels::cpu::attention::{Cells, Half, Plan, Scratch, Shape, View};
use dovetail_kernels::cpu::{CacheType, Kernels, ThreadPool, order};
use std::cell::LazyCell;

const SHAPE: Shape = Shape { kv_heads: 8, group: 4, head_dim: 128 };
const HEADS: usize = SHAPE.kv_heads * SHAPE.group;
const CONTEXTS: [usize; 2] = [512, 4096];
const ROWS: [usize; 4] = [1, 4, 16, 64];

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let bench = Bench::new();
    let kernels = Kernels::choose().expect("DOVETAIL_ISA names an instruction set");
    let mut group = criterion.benchmark_group("attention");
    for context in CONTEXTS {
        for n in ROWS {
            // Made when first used: the command line may leave it out.
            let problem = LazyCell::new(|| Problem::new(context, n));
            for ty in CacheType::ALL {
                let case = format!("{} {context} x {n}", ty.name());
                let bytes = 2 * SHAPE.kv_heads * (context + n) * ty.row_bytes(SHAPE.head_dim);
                let load = Load { bytes, operations: 0 };
                let mut ours = None;
                let mut attend = || {
                    let new = || Ours::new(&problem, ty, kernels, bench.threads);
                    ours.get_or_insert_with(new).run();
                };
                bench.rate(&mut group, "dovetail", &case, load, &mut attend);
                let Some(mut ours) = ours else { continue };
                if let Some(mut rival) = rival(&problem, ty, bench.threads) {
                    bench.rate(&mut group, "ggml", &case, load, &mut || rival.run());
                    rival.rest();
                    common::print_ratio(&case, "ggml", &mut ours, &mut rival);
                }
            }
        }
    }
    group.finish();
    criterion.final_summary();
}

/// A tree behind a context, with its queries, keys and values.
struct Problem {
    context: usize,
    masks: Vec<u64>,               // (n)
    queries: Vec<f32>,             // (kv_heads, n, group, head_dim)
    rows: [Vec<Vec<Vec<f32>>>; 2], // keys, values: (kv_heads, positions, head_dim)
}

impl Problem {
    fn new(context: usize, n: usize) -> Problem {
        let mut numbers = Random(1);
        let mut masks: Vec<u64> = Vec::new();
        for node in 0..n {
            let parent = masks.get(numbers.below(node.max(1))).copied().unwrap_or(0);
            masks.push(parent | 1 << node);
        }
        let queries = numbers.floats(HEADS * n * SHAPE.head_dim);
        let mut heads = || {
            let mut head = || (0..context + n).map(|_| numbers.floats(SHAPE.head_dim)).collect();
            (0..SHAPE.kv_heads).map(|_| head()).collect()
        };
        Problem { context, masks, queries, rows: [heads(), heads()] }
    }

    fn positions(&self) -> usize {
        self.context + self.masks.len()
    }

    /// Positions that a node sees.
    fn seen(&self, node: usize) -> impl Iterator<Item = usize> {
        let mask = self.masks[node];
        let nodes = (0..self.masks.len()).filter(move |j| mask >> j & 1 == 1);
        (0..self.context).chain(nodes.map(|j| self.context + j))
    }
}

struct Ours<'a> {
    problem: &'a Problem,
    ty: CacheType,
    kernels: &'static Kernels,
    pool: ThreadPool,
    scratch: Vec<Scratch>,
    views: Vec<View>,
    cache: [Vec<Vec<u8>>; 2], // keys, values of each KV head
    parts: Vec<f32>,
    out: Vec<f32>, // (n, HEADS, head_dim)
}

impl Ours<'_> {
    /// Ready to attend, and found right.
    fn new<'a>(
        problem: &'a Problem,
        ty: CacheType,
        kernels: &'static Kernels,
        threads: usize,
    ) -> Ours<'a> {
        let hd = SHAPE.head_dim;
        let n = problem.masks.len();
        let pieces = problem.positions().next_multiple_of(Half::Values.positions());
        let cache = [(Half::Keys, &problem.rows[0]), (Half::Values, &problem.rows[1])];
        let cache = cache.map(|(half, heads)| {
            let pack = |rows: &Vec<Vec<f32>>| {
                let mut bytes = vec![0; pieces * ty.row_bytes(hd)];
                for (position, row) in rows.iter().enumerate() {
                    ty.store(half, &mut bytes, position, row);
                }
                bytes
            };
            heads.iter().map(pack).collect()
        });
        let mut ours = Ours {
            problem,
            ty,
            kernels,
            pool: ThreadPool::new(threads),
            scratch: (0..threads).map(|_| Scratch::new(SHAPE.unit_rows(), hd)).collect(),
            views: problem.masks.iter().map(|mask| View::tree(problem.context, *mask)).collect(),
            cache,
            parts: vec![0.0; SHAPE.room(n, problem.positions())],
            out: vec![0.0; n * HEADS * hd],
        };
        ours.run();
        ours.check();
        ours
    }

    /// Some rows have the bits of the specification.
    fn check(&self) {
        let (hd, group, n) = (SHAPE.head_dim, SHAPE.group, self.views.len());
        for (row, head) in [(0, 0), (n / 2, 5), (n - 1, HEADS - 1)] {
            let at = ((head / group * n + row) * group + head % group) * hd;
            let of = |half: usize| {
                let rows = &self.problem.rows[half][head / group];
                self.problem.seen(row).map(|p| self.ty.rounded(&rows[p])).collect::<Vec<_>>()
            };
            let query = &self.problem.queries[at..][..hd];
            let expected = order::attention(query, 0, &of(0), &of(1), order::Scores::default());
            let found = &self.out[(row * HEADS + head) * hd..][..hd];
            let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(found), bits(&expected), "row {row}, head {head}");
        }
    }
}

impl Side for Ours<'_> {
    /// The two phases of a pass that attend: parts, then rows.
    fn run(&mut self) {
        let (hd, n) = (SHAPE.head_dim, self.views.len());
        let mut first = 0;
        while first < n {
            let views = &self.views[..];
            let (room, members) = (self.parts.len(), self.pool.members());
            let plan = Plan::new(SHAPE, views, [n], first, room, members);
            let (problem, kernels, cache, ty) = (self.problem, self.kernels, &self.cache, self.ty);
            let parts = &mut self.parts[..plan.len()];
            self.pool.for_chunks(parts, plan.unit_len(), &mut self.scratch, |i, parts, scratch| {
                let cells = |_, head: usize| {
                    let halves = [(&cache[0], Half::Keys), (&cache[1], Half::Values)];
                    let cells = halves
                        .map(|(bytes, half)| Cells::new(ty, half, SHAPE.head_dim, &bytes[head]));
                    cells.into()
                };
                let task = plan.task(i, &problem.queries, views, cells);
                (kernels.attention)(&task, scratch, parts);
            });
            let parts = &self.parts[..];
            let out = &mut self.out[first * HEADS * hd..][..plan.tokens() * HEADS * hd];
            self.pool.for_chunks(out, HEADS * hd, &mut self.scratch, |row, out, _| {
                for (head, out) in out.chunks_exact_mut(hd).enumerate() {
                    (kernels.combine)(&plan.parts(parts, row, head, &views[first + row]), out);
                }
            });
            first += plan.tokens();
        }
    }
}

#[cfg(not(feature = "rival"))]
fn rival(_: &Problem, _: CacheType, _: usize) -> Option<NoRival> {
    None
}

/// ggml over the same numbers.
#[cfg(feature = "rival")]
fn rival(
    problem: &Problem,
    ty: CacheType,
    threads: usize,
) -> Option<ggml_sys::attention::FlashAttention> {
    use ggml_sys::attention::{FlashAttention, Problem as Theirs};
    const HIDDEN: u16 = 0xfc00; // −∞ as a half float
    let (hd, group, n) = (SHAPE.head_dim, SHAPE.group, problem.masks.len());
    let id = match ty {
        CacheType::F32 => 0,
        CacheType::F16 => 1,
        CacheType::Q4_0 => 2,
        CacheType::Q5_1 => 7,
        CacheType::Q8_0 => 8,
        CacheType::BF16 => 30,
    };
    let [keys, values] = [0, 1].map(|half| {
        let rows: Vec<f32> = problem.rows[half].iter().flatten().flatten().copied().collect();
        ggml_sys::quantize(id, &rows, hd).expect("heads are whole blocks")
    });
    let mut mask = vec![HIDDEN; n * problem.positions()];
    for (row, mask) in mask.chunks_exact_mut(problem.positions()).enumerate() {
        problem.seen(row).for_each(|position| mask[position] = 0);
    }
    let mut queries = vec![0.0; problem.queries.len()]; // (HEADS, n, head_dim)
    for (i, query) in problem.queries.chunks_exact(hd).enumerate() {
        let (head, row) = (i / (n * group) * group + i % group, i / group % n);
        queries[(head * n + row) * hd..][..hd].copy_from_slice(query);
    }
    let mut attention = FlashAttention::new(Theirs {
        id,
        keys: &keys,
        values: &values,
        mask: &mask,
        heads: HEADS,
        kv_heads: SHAPE.kv_heads,
        head_dim: hd,
        rows: n,
        positions: problem.positions(),
        threads,
    })
    .expect("the sizes fit each other");
    attention.set_queries(&queries);
    Some(attention)
}
