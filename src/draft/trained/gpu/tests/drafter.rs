//! The whole drafter on every device there is.

use super::common::drafter::{SHAPES, errors_of_draft_tokens};
use super::common::gguf::Parts;
use super::common::naive::Rounding;
use super::common::tiny::{N_CTX, tiny};
use super::{devices, on_device};
use crate::draft::{Drafter, DrafterContext, Placement};
use crate::model::Model;
use std::sync::Arc;

#[test]
fn draft_tokens_are_those_of_the_textbook() {
    for shape in SHAPES.into_iter().filter(|shape| !shape.is_eagle3()) {
        for device in devices() {
            let open = |parts: &Parts, target: &Arc<Model>| -> Box<dyn Drafter> {
                let file = parts.write();
                let placement = Placement { alone: true, ..Placement::CPU };
                let path = Some(file.path());
                let setup =
                    DrafterContext { target, n_ctx: N_CTX as usize, threads: 1, path, placement };
                on_device(&setup, device)
            };
            let errors = errors_of_draft_tokens(tiny("f32"), shape, Rounding::None, open);
            // Rows are half floats between products.
            let mean = errors.iter().sum::<f64>() / errors.len() as f64;
            let most = errors.iter().fold(0.0f64, |a, b| a.max(*b));
            assert!(mean < 0.01 && most < 0.05, "{shape:?}: {mean}, up to {most}");
        }
    }
}
