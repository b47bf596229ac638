//! What a drafter saves, another one takes up, here and there: its next tree is the one that would have followed.

use super::common::bits::sequence;
use super::common::drafter::{SHAPES, Shape};
use super::common::random::Random;
use super::common::tiny::{N_CTX, N_VOCAB, tiny};
use super::{devices, on_device};
use crate::draft::trained::KIND;
use crate::draft::{Drafter, DrafterContext, Placement, SoloDraft};
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

/// A drafter with one sequence.
struct One(Box<dyn Drafter>, SoloDraft);

impl One {
    fn restore(&mut self, tokens: &[u32], saved: &[u8]) -> bool {
        self.0.restore(self.1.state(), tokens, saved).unwrap()
    }
}

impl Text {
    fn tell(&self, One(drafter, solo): &mut One, first: usize, end: usize, pool: &mut ThreadPool) {
        let rows = self.hidden[first..end].iter().map(|row| &row[..]);
        solo.commit(&mut **drafter, first, &self.tokens[first..end], rows, pool).unwrap();
    }

    /// The tree behind the first `n` tokens and the next one.
    fn tree(&self, One(drafter, solo): &mut One, n: usize, pool: &mut ThreadPool) -> Tree {
        let shape = "beam:3,3,9".parse().unwrap();
        *solo.expand(&mut **drafter, &self.tokens[..=n], shape, pool).unwrap()
    }

    /// Takes a drafter to where it is saved.
    fn read(&self, drafter: &mut One, pool: &mut ThreadPool) -> Vec<u8> {
        self.tell(drafter, 0, GROWN, pool);
        self.tree(drafter, GROWN, pool);
        self.tell(drafter, GROWN, SAVED, pool);
        let mut saved = vec![];
        drafter.0.save(drafter.1.state(), &mut saved).unwrap();
        saved
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
                let state = text.read(&mut drafter, &mut pool);
                (state, text.tree(&mut drafter, SAVED, &mut pool))
            })
            .collect();
        for (place, (state, _)) in read.iter().enumerate() {
            for (other, (_, expected)) in read.iter().enumerate() {
                let about = format!("{shape:?} from {place} to {other}");
                let mut drafter = open(shape, &target, other);
                text.tell(&mut drafter, SAVED - 9, SAVED, &mut pool);
                let joined = text.tree(&mut drafter, SAVED, &mut pool);
                // That is void now.
                assert!(drafter.restore(&text.tokens[..SAVED], state));
                let found = text.tree(&mut drafter, SAVED, &mut pool);
                if place == other {
                    assert_eq!(&found, expected, "{about}");
                }
                let [found, joined] = [&found, &joined].map(|tree| distance(tree, expected));
                assert!(joined > 2.0 * found, "{about}: {found}, not {joined}");
                for wrong in [&state[..state.len() - 2], &state[..40], &[]] {
                    assert!(!drafter.restore(&text.tokens[..SAVED], wrong));
                    assert_eq!(
                        text.tree(&mut drafter, SAVED, &mut pool).len(),
                        1,
                        "it has seen nothing"
                    );
                }
            }
        }
    }
}

/// The CPU, or one of the devices.
fn open(shape: Shape, target: &Arc<Model>, place: usize) -> One {
    let file = shape.parts(tiny("q4_1"), target).write();
    let (path, placement) = (Some(file.path()), Placement::CPU);
    let setup = DrafterContext { target, n_ctx: N_CTX as usize, threads: 1, path, placement };
    let mut drafter = match devices().into_iter().nth(place) {
        Some(device) => on_device(&setup, device),
        None => (KIND.open)(&setup).unwrap(),
    };
    let solo = SoloDraft::new(&mut *drafter).unwrap();
    One(drafter, solo)
}

/// How far the probabilities are apart, in the order of their size: rounding may change that of draft tokens which are
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
