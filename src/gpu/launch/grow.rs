//! Grows a tree, level by level.

use super::state::TreeShapeState;
use super::topk::Candidates;
use super::{Buffer, Launch, LaunchMemory, Rows, Slots};
use crate::ring::message::Proposals;
use bytemuck::{Pod, Zeroable};

const THREADS: u32 = 256;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Args {
    growth: u64,
    rows: u64,
    counts: u64,
    tokens: u64,
    log_probs: u64,
    target_tokens: u64,
    sequence: u64,
    proposals: u64,
    proposal_slots: u32,
    slot_bytes: u32,
    level: u32,
    last: u32,
}

/// Growth by one level. See `grow.cu`.
pub struct Grow<'a> {
    /// Number of passes before this one. Level 0 follows the pass over the entries, whose row 0 is the root.
    pub level: usize,
    /// Whether no pass follows, so that the tree is written.
    pub last: bool,
    /// A buffer of one.
    pub growth: &'a Buffer<TreeShapeState>,
    /// A buffer of one: the rows of the previous pass, replaced by those of the next.
    pub rows: &'a Buffer<Rows>,
    /// The proposals of these rows.
    pub candidates: &'a Candidates,
    /// The target's token for each token of the draft vocabulary; `None` if they are the same.
    pub target_tokens: Option<&'a Buffer<u32>>,
    /// A buffer of one: the number of trees written before.
    pub sequence: &'a Buffer<u32>,
    /// Where the host reads the trees.
    pub proposals: &'a Slots,
}

/// Takes in the proposals of the last pass, and sets up the next pass or writes the tree.
///
/// # Panics
/// If lengths do not fit.
pub fn grow(a: &Grow) -> Launch {
    assert!(a.growth.len() == 1 && a.rows.len() == 1 && a.sequence.len() == 1);
    assert!(a.proposals.slot_bytes() >= size_of::<Proposals>(), "a slot holds a tree");
    a.candidates.check();
    let mut memory = LaunchMemory::default();
    let args = Args {
        growth: memory.buffer(a.growth),
        rows: memory.buffer(a.rows),
        counts: memory.buffer(&a.candidates.counts),
        tokens: memory.buffer(&a.candidates.tokens),
        log_probs: memory.buffer(&a.candidates.log_probs),
        target_tokens: memory.optional(a.target_tokens),
        sequence: memory.buffer(a.sequence),
        proposals: a.proposals.address(&mut memory),
        proposal_slots: a.proposals.n_slots() as u32,
        slot_bytes: a.proposals.slot_bytes() as u32,
        level: a.level as u32,
        last: a.last.into(),
    };
    // SAFETY: lengths were checked above.
    unsafe { Launch::new("grow", [1, 1], THREADS, &args, memory) }
}

#[cfg(test)]
mod tests {
    use super::super::NONE;
    use super::super::testing::Random;
    use super::*;
    use crate::gpu::device::{Device, Doorbell};
    use crate::gpu::launch::MAX_ROWS;
    use crate::gpu::launch::state::RoundParameters;
    use crate::gpu::tests::{devices, run};
    use crate::ring::{DOORBELLS_AT, Layout, Receiver};
    use crate::tree::{Candidate, GrowingTree, Tree, TreeShape};
    use std::ops::Range;

    const LAYOUT: Layout = Layout::new(4, Proposals::SLOT_BYTES);
    const N_DRAFT: usize = 300;

    /// The target's token for a token of the draft vocabulary.
    fn target_token(token: u32, mapped: bool) -> u32 {
        if mapped { token * 7 + 3 } else { token }
    }

    /// The proposals of a row: tokens of the draft vocabulary and their log probabilities.
    type Row = Vec<(u32, f32)>;

    /// A level as `GrowingTree` runs it: the frontier, the range of the level's nodes in it, and the proposals of each.
    struct Level {
        frontier: Tree,
        nodes: Range<usize>,
        rows: Vec<Row>,
        /// The row whose probabilities are NaN.
        failed: Option<usize>,
    }

    struct Round {
        growth: TreeShape,
        floor: f32,
        mapped: bool,
        root: u32,
        levels: Vec<Level>,
        tree: Tree,
    }

    impl Round {
        /// The specification, for up to `passes` passes; `row` makes up their proposals.
        fn new(
            (growth, floor, passes): (TreeShape, f32, usize),
            mapped: bool,
            mut row: impl FnMut() -> Row,
        ) -> Round {
            let (root, mut levels, mut growing) = (1234, Vec::new(), GrowingTree::default());
            growing.start(root, growth.within(passes, 64), floor, false);
            while growing.is_growing() {
                let (frontier, nodes) = (*growing.frontier(), growing.level());
                let rows: Vec<Row> = nodes.clone().map(|_| row()).collect();
                for (parent, row) in nodes.clone().zip(&rows) {
                    for &(token, log_prob) in row {
                        let token = target_token(token, mapped);
                        growing.propose(Candidate { parent, token, log_prob });
                    }
                }
                levels.push(Level { frontier, nodes, rows, failed: None });
                growing.pool_candidates();
                growing.set_width(growth.width);
                growing.go_on();
            }
            let tree = *growing.tree();
            Round { growth, floor, mapped, root, levels, tree }
        }

        fn parameters(&self) -> RoundParameters {
            RoundParameters {
                depth: self.growth.depth as u32,
                width: self.growth.width as u32,
                nodes: self.growth.nodes as u32,
                floor: self.floor,
                n_draft: N_DRAFT as u32,
                root_token: self.root,
                root_slot: 40,
                unused: 0,
            }
        }
    }

    /// A device and the memory of its rounds.
    struct Setup {
        device: Box<dyn Device>,
        passes: usize,
        growth: Buffer<TreeShapeState>,
        rows: Buffer<Rows>,
        candidates: Candidates,
        target_tokens: Buffer<u32>,
        sequence: Buffer<u32>,
        slots: Slots,
        /// Rung when a tree was written.
        doorbell: Doorbell,
        receiver: Receiver,
    }

    impl Setup {
        fn new(mut device: Box<dyn Device>, passes: usize) -> Setup {
            let d = &mut *device;
            let tokens: Vec<u32> = (0..N_DRAFT as u32).map(|i| target_token(i, true)).collect();
            // Counters wrap around during the test.
            let written = u32::MAX - 2;
            let (region, shared) = d.share(LAYOUT.bytes()).unwrap();
            for at in DOORBELLS_AT {
                d.ring(&shared.doorbell(at), written).unwrap();
            }
            d.finish().unwrap();
            Setup {
                passes,
                growth: Buffer::new(d, 1).unwrap(),
                rows: Buffer::new(d, 1).unwrap(),
                candidates: Candidates::new(d).unwrap(),
                target_tokens: Buffer::from_slice(d, &tokens).unwrap(),
                sequence: Buffer::from_slice(d, &[written]).unwrap(),
                slots: Slots::new(&shared, LAYOUT),
                doorbell: shared.doorbell(LAYOUT.head_at()),
                receiver: Receiver::new(region, LAYOUT),
                device,
            }
        }

        fn launch(&self, level: usize, mapped: bool) -> Launch {
            grow(&Grow {
                level,
                last: level + 1 == self.passes,
                growth: &self.growth,
                rows: &self.rows,
                candidates: &self.candidates,
                target_tokens: mapped.then_some(&self.target_tokens),
                sequence: &self.sequence,
                proposals: &self.slots,
            })
        }

        /// A round: writes the parameters to `growth`, then runs the levels with the proposals of `round`. Returns the
        /// rows of each next pass and the tree.
        fn round(&mut self, round: &Round) -> (Vec<Rows>, Proposals) {
            // Only the parameters are written; the rest of the state must not matter.
            let parameters = round.parameters();
            let words = bytemuck::cast_slice(std::slice::from_ref(&parameters));
            self.growth.as_words().write(&mut *self.device, 0, words).unwrap();
            let entries = Rows { n: 5, ..Rows::zeroed() };
            self.rows.write(&mut *self.device, 0, &[entries]).unwrap();
            let mut passes = Vec::new();
            for level in 0..self.passes {
                let (device, of_level) = (&mut *self.device, round.levels.get(level));
                for (r, row) in of_level.iter().flat_map(|level| &level.rows).enumerate() {
                    let (tokens, log_probs): (Vec<u32>, Vec<f32>) = row.iter().copied().unzip();
                    let Candidates { counts, tokens: t, log_probs: l } = &self.candidates;
                    let failed = of_level.is_some_and(|level| level.failed == Some(r));
                    let count = if failed { NONE } else { row.len() as u32 };
                    counts.write(device, r, &[count]).unwrap();
                    t.write(device, r * MAX_ROWS, &tokens).unwrap();
                    l.write(device, r * MAX_ROWS, &log_probs).unwrap();
                }
                let launch = self.launch(level, round.mapped);
                run(&mut *self.device, &[launch]);
                passes.push(self.rows.read(&mut *self.device).unwrap()[0]);
            }
            (passes, self.proposals())
        }

        /// The tree that was written last.
        fn proposals(&mut self) -> Proposals {
            let (device, written) = (&mut *self.device, self.receiver.sequence().wrapping_add(1));
            assert_eq!(self.sequence.read(device).unwrap(), [written]);
            device.ring(&self.doorbell, written).unwrap();
            device.finish().unwrap();
            let found = *Proposals::of(self.receiver.receive().unwrap());
            self.receiver.release();
            found
        }

        #[track_caller]
        fn check(&mut self, round: &Round) {
            let (passes, found) = self.round(round);
            let mut ended = false;
            for (depth, rows) in passes.iter().enumerate() {
                let expected = round.levels.get(depth + 1);
                ended |= rows.n == 0;
                if ended {
                    assert_eq!(rows.n, 0, "it does not begin anew");
                    continue;
                }
                let Level { frontier, nodes, .. } = expected.expect("the tree goes on as long");
                assert_eq!(rows.n as usize, nodes.len());
                let last = &round.levels[depth].nodes;
                for (r, node) in nodes.clone().enumerate() {
                    assert_eq!(rows.slot[r] as usize, 40 + node);
                    assert_eq!((rows.base[r], rows.position[r] as usize), (40, 40 + depth + 1));
                    assert_eq!(rows.mask[r], frontier.masks()[node]);
                    assert_eq!(target_token(rows.token[r], round.mapped), frontier.tokens()[node]);
                    assert_eq!(
                        rows.parent[r] as usize,
                        frontier.parent(node).unwrap() - last.start
                    );
                }
            }
            let (tree, n) = (&round.tree, found.len as usize);
            assert_eq!(n, tree.len());
            assert_eq!(&found.tokens[..n], tree.tokens());
            assert_eq!(&found.masks[..n], tree.masks());
            let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&found.log_probs[..n]), bits(tree.log_probs()));
            for node in 0..n {
                assert_eq!(found.parents[node] as usize, tree.parent(node).unwrap_or(0));
                assert_eq!(found.depths[node] as usize, tree.depth(node));
            }
        }
    }

    /// Proposals of a row in descending order, with `steps` different probabilities unless that is 0.
    fn row(random: &mut Random, width: usize, steps: usize) -> Row {
        let first = random.below(N_DRAFT);
        let mut log_probs: Vec<f32> = (0..width)
            .map(|_| match steps {
                0 => random.float(4.0) - 4.0,
                _ => random.below(steps) as f32 / -2.0,
            })
            .collect();
        log_probs.sort_by(|a, b| b.total_cmp(a));
        let tokens = (0..width).map(|k| ((first + k * 7) % N_DRAFT) as u32);
        tokens.zip(log_probs).collect()
    }

    fn setups(passes: usize) -> Vec<Setup> {
        devices().into_iter().map(|device| Setup::new(device, passes)).collect()
    }

    #[test]
    fn trees_grow_as_on_the_cpu() {
        let mut random = Random(10);
        for passes in [1, 3, 8] {
            let mut setups = setups(passes);
            for i in 0..100 {
                let width = 1 + random.below(10);
                let depth = 1 + random.below(9);
                let nodes = 1 + random.below(64);
                let floor = [f32::NEG_INFINITY, -6.0, -3.0, 0.0][random.below(4)];
                let growth = TreeShape { depth, width, nodes };
                let steps = [0, 1, 2, 5, 40][i % 5];
                let round = Round::new((growth, floor, passes), i % 3 == 0, || {
                    // Short rows, and levels without any proposal.
                    let shorter = if random.below(4) == 0 { random.below(width + 1) } else { 0 };
                    row(&mut random, width - shorter, steps)
                });
                setups.iter_mut().for_each(|setup| setup.check(&round));
            }
        }
    }

    #[test]
    fn wide_levels_and_full_frontiers() {
        let mut random = Random(11);
        let mut setups = setups(4);
        for width in [16, 17, 21, 31, 32, 40, 62, 63] {
            for (i, nodes) in [2, width + 1, 40, 64].into_iter().enumerate() {
                let growth = TreeShape { depth: 4, width, nodes };
                let round = Round::new((growth, -9.0, 4), false, || {
                    row(&mut random, width, [0, 0, 3, 40][i])
                });
                setups.iter_mut().for_each(|setup| setup.check(&round));
            }
        }
    }

    #[test]
    fn nothing_grows_where_nothing_may() {
        let mut random = Random(12);
        let mut setups = setups(3);
        for (depth, width, nodes) in [(0, 3, 9), (3, 0, 9), (3, 3, 1), (3, 3, 0), (3, 3, 9)] {
            let floor = if nodes == 9 { 0.0 } else { -1.0 };
            let growth = TreeShape { depth, width, nodes };
            let round = Round::new((growth, floor, 3), false, || row(&mut random, width, 0));
            assert_eq!(round.tree.len(), 1);
            setups.iter_mut().for_each(|setup| setup.check(&round));
        }
    }

    #[test]
    fn odd_probabilities_are_worth_nothing() {
        let odd = [0.5, -0.0, 0.0, -1e-30, -1.0, f32::NEG_INFINITY, f32::NAN, -f32::NAN];
        let mut random = Random(13);
        let mut setups = setups(5);
        for i in 0..20 {
            let growth = TreeShape { depth: 5, width: 6, nodes: 10 + i };
            let floor = if i % 2 == 0 { f32::NEG_INFINITY } else { f32::MIN };
            let round = Round::new((growth, floor, 5), true, || {
                let first = random.below(9) as u32;
                (0..6).map(|k| (first + k, odd[random.below(odd.len())])).collect()
            });
            setups.iter_mut().for_each(|setup| setup.check(&round));
        }
    }

    #[test]
    fn passes_that_cannot_matter_are_left_out() {
        // The root's children alone are likely enough to fill a tree of three nodes.
        let growth = TreeShape { depth: 6, width: 2, nodes: 3 };
        let mut level = 0.0;
        let round = Round::new((growth, f32::NEG_INFINITY, 6), false, || {
            level -= 1.0;
            vec![(1, level), (2, level)]
        });
        for setup in &mut setups(6) {
            let n_rows: Vec<u32> = setup.round(&round).0.iter().map(|rows| rows.n).collect();
            assert_eq!(n_rows, [2, 0, 0, 0, 0, 0]);
        }
    }

    #[test]
    fn failures_are_told_and_forgotten() {
        let mut random = Random(14);
        let growth = TreeShape { depth: 3, width: 3, nodes: 12 };
        for at in 0..3 {
            for setup in &mut setups(3) {
                let mut round = Round::new((growth, -50.0, 3), false, || row(&mut random, 3, 0));
                setup.check(&round);
                round.levels[at].failed = Some(round.levels[at].rows.len() - 1);
                let (passes, tree) = setup.round(&round);
                assert!(tree.len == 0 && passes[at..].iter().all(|rows| rows.n == 0));
                let round = Round::new((growth, -50.0, 3), false, || row(&mut random, 3, 0));
                setup.check(&round);
            }
        }
    }
}
