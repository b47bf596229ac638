//! A drafter trained for the target: it runs the target's features and the next tokens through a few decoder blocks.
//!
//! ```text
//! file.rs           the weights, and their format in a GGUF file
//! entries.rs        the positions of the sequence that the drafter was notified of
//! dynamic_vocab.rs  tokens that the text adds to the draft vocabulary
//! cpu/ gpu/         the drafter on the CPU, and on a GPU
//! placement.rs      chooses the device, and falls back to the CPU
//! ```

mod cpu;
mod dynamic_vocab;
mod entries;
mod file;
pub(crate) mod gpu;
mod placement;

pub use placement::{DraftDevice, Placement};

use super::{DrafterKind, FileFrom};
use crate::tree::TreeShape;

pub(in crate::draft) use cpu::ROWS;
pub(in crate::draft) use file::{ARCHITECTURES, target_of};

pub(in crate::draft) const KIND: DrafterKind = DrafterKind {
    name: "dgf",
    growth: TreeShape { depth: 6, width: 1, nodes: 7 },
    p_min: 0.25,
    file: FileFrom::Shelf,
    open: placement::open,
};
