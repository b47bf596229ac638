//! What a drafter saves, another one takes up, here and there: its next tree is the one that would have followed.

use super::common::bits::sequence;
use super::common::drafter::{SHAPES, Shape};
use super::common::random::Random;
use super::common::tiny::{N_CTX, N_VOCAB, tiny};
use super::devices;
use crate::draft::trained::CpuDrafter;
use crate::draft::trained::gpu::GpuDrafter;
use crate::draft::{CandidateSelector, Drafter, DrafterContext, Placement};
use crate::model::Model;
use crate::tree::Tree;
use dovetail_kernels::cpu::ThreadPool;
use std::sync::Arc;

/// Positions behind which a tree is grown, and those behind which what is known is saved.
const GROWN: usize = 60;
const SAVED: usize = 67;

/// A sequence, and what a target hands out of it: (positions, width).
struct Text {
    tokens: Vec<u32>,
    hidden: Vec<Vec<f32>>,
}

impl Text {
    fn tell(&self, drafter: &mut dyn Drafter, first: usize, end: usize, pool: &mut ThreadPool) {
        let mut rows = self.hidden[first..end].iter().map(|row| &row[..]);
        drafter.commit(first, &self.tokens[first..end], &mut rows, pool).unwrap();
    }

    /// The tree behind the first `n` tokens and the next one.
    fn tree(&self, drafter: &mut dyn Drafter, n: usize, pool: &mut ThreadPool) -> Tree {
        let mut tree = Tree::new(self.tokens[n]);
        let mut guesser = CandidateSelector::new("beam:3,3,9".parse().unwrap());
        drafter.expand(&self.tokens[..=n], &mut guesser, &mut tree, pool).unwrap();
        tree
    }

    /// Takes a drafter to where it is saved.
    fn read(&self, drafter: &mut dyn Drafter, pool: &mut ThreadPool) -> Vec<u8> {
        self.tell(drafter, 0, GROWN, pool);
        self.tree(drafter, GROWN, pool);
        self.tell(drafter, GROWN, SAVED, pool);
        let mut state = vec![];
        drafter.save(&mut state).unwrap();
        state
    }
}

#[test]
fn what_is_saved_on_one_device_goes_on_on_another() {
    let t = tiny("q4_1");
    let target = Arc::new(t.parts().load().unwrap());
    let mut pool = ThreadPool::new(1);
    for shape in SHAPES.into_iter().filter(|shape| shape.every == 1 && !shape.is_eagle3()) {
        let mut random = Random(77);
        let width = shape.taps.len().max(1) * t.n_embd;
        let text = Text {
            tokens: sequence(SAVED + 1, N_VOCAB, 3),
            hidden: (0..SAVED).map(|_| random.floats(width)).collect(),
        };
        let places = 0..=devices().len();
        let read: Vec<(Vec<u8>, Tree)> = places
            .clone()
            .map(|place| {
                let mut drafter = open(shape, &target, place);
                let state = text.read(&mut *drafter, &mut pool);
                (state, text.tree(&mut *drafter, SAVED, &mut pool))
            })
            .collect();
        for (place, (state, _)) in read.iter().enumerate() {
            for (other, (_, expected)) in read.iter().enumerate() {
                let about = format!("{shape:?} from {place} to {other}");
                let mut drafter = open(shape, &target, other);
                text.tell(&mut *drafter, SAVED - 9, SAVED, &mut pool);
                let joined = text.tree(&mut *drafter, SAVED, &mut pool);
                // That is void now.
                assert!(drafter.restore(&text.tokens[..SAVED], state).unwrap());
                let found = text.tree(&mut *drafter, SAVED, &mut pool);
                if place == other {
                    assert_eq!(&found, expected, "{about}");
                }
                let [found, joined] = [&found, &joined].map(|tree| distance(tree, expected));
                assert!(joined > 2.0 * found, "{about}: {found}, not {joined}");
                for wrong in [&state[..state.len() - 2], &state[..40], &[]] {
                    assert!(!drafter.restore(&text.tokens[..SAVED], wrong).unwrap());
                    assert_eq!(
                        text.tree(&mut *drafter, SAVED, &mut pool).len(),
                        1,
                        "it has seen nothing"
                    );
                }
            }
        }
    }
}

/// The CPU, or one of the devices.
fn open(shape: Shape, target: &Arc<Model>, place: usize) -> Box<dyn Drafter> {
    let file = shape.parts(tiny("q4_1"), target).write();
    let (path, placement) = (Some(file.path()), Placement::CPU);
    let setup = DrafterContext { target, n_ctx: N_CTX as usize, threads: 1, path, placement };
    match devices().into_iter().nth(place) {
        Some(device) => Box::new(GpuDrafter::open(&setup, device).unwrap()),
        None => Box::new(CpuDrafter::open(&setup).unwrap()),
    }
}

/// How far the probabilities are apart, in the order of their size: rounding may change that of guesses which are
/// nearly as likely.
fn distance(a: &Tree, b: &Tree) -> f32 {
    let [p, q] = [a, b].map(|tree| {
        let mut all = tree.log_probs()[1..].to_vec();
        all.sort_by(f32::total_cmp);
        all
    });
    assert!(a.len() == b.len() && a.len() > 1);
    p.iter().zip(&q).map(|(p, q)| (p - q).abs()).sum::<f32>() / p.len() as f32
}
