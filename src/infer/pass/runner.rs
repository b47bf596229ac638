//! The interface between a pass and the place where decoder blocks run.

use super::cpu::Cpu;
use super::panel::Panel;
use super::rows::PassRows;
use crate::model::block::Block;
use std::ops::Range;

/// Runs decoder blocks where their weights are. The bits of a row do not depend on the place.
pub(super) trait BlockRunner {
    /// Runs these blocks on the hidden states, (n_embd) for each row, and writes their keys and values to the caches of
    /// the rows' spans.
    fn run(&mut self, blocks: Range<usize>, hidden: &mut Panel, rows: &mut PassRows);
}

/// Runs all blocks on the CPU.
pub(super) struct CpuBlocks<'a> {
    pub cpu: Cpu<'a>,
    pub blocks: &'a [Block],
    /// A copy of what enters a parallel block.
    pub entry: &'a mut Panel,
}

impl BlockRunner for CpuBlocks<'_> {
    fn run(&mut self, blocks: Range<usize>, hidden: &mut Panel, rows: &mut PassRows) {
        for i in blocks {
            let Block { mixer, ffn, parallel, per_layer, output_scale } = &self.blocks[i];
            if *parallel {
                self.entry.copy_from(hidden, self.cpu.c.n_embd);
            }
            self.cpu.mix(i, mixer, hidden, rows);
            self.cpu.feed_forward(ffn, parallel.then_some(&*self.entry), hidden);
            if let Some(branch) = per_layer {
                self.cpu.per_layer(i, branch, rows.per_layer, hidden);
            }
            if *output_scale != 1.0 {
                self.cpu.scale(*output_scale, hidden);
            }
        }
    }
}
