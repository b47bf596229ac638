//! Who runs decoder blocks: the seam at which blocks may lie elsewhere than on the CPU.

use super::cpu::Cpu;
use super::panel::Panel;
use super::rows::PassRows;
use crate::model::block::Block;
use std::ops::Range;

/// Runs decoder blocks where their weights are. Wherever that is, a row has the same bits.
pub(super) trait BlockRunner {
    /// Takes the hidden states of the rows, (n_embd), through these blocks. Their keys and values are in
    /// the caches of the rows' spans afterwards.
    fn run(&mut self, blocks: Range<usize>, hidden: &mut Panel, rows: &mut PassRows);
}

/// The CPU, which has the weights of all blocks.
pub(super) struct CpuBlocks<'a> {
    pub cpu: Cpu<'a>,
    pub blocks: &'a [Block],
}

impl BlockRunner for CpuBlocks<'_> {
    fn run(&mut self, blocks: Range<usize>, hidden: &mut Panel, rows: &mut PassRows) {
        for i in blocks {
            let Block { mixer, ffn } = &self.blocks[i];
            self.cpu.mix(i, mixer, hidden, rows);
            self.cpu.feed_forward(ffn, hidden);
        }
    }
}
