//! One round of an engine, or of several engines in one pass.

use super::drafting::speculations;
use super::engine::Engine;
use super::request::{RequestId, Slot};
use crate::error::{Error, Result};
use crate::infer::MAX_SEQUENCES;
use crate::speculate::stream::Stream;
use crate::speculate::{Piece, Speculation, round};
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Instant;

impl Engine {
    /// Runs one round for all sequences that are written, and a chunk of the prompts that are read. `take` gets the
    /// pieces of each request in order. Returns whether any request goes on.
    ///
    /// # Errors
    /// If a pass cannot be run; all sequences are then as they were.
    pub fn step(&mut self, take: &mut dyn FnMut(RequestId, Piece)) -> Result<bool> {
        step_together(&mut [self], &mut |_, id, piece| take(id, piece))
    }

    /// One round of this engine's sequences.
    pub(super) fn round(&mut self) -> Result<()> {
        round_together(&mut [self])
    }
}

/// One step of several engines of one model, whose sequences share a pass. The pass belongs to the engine with the
/// longest context; tree sizes are decided by the planner of the engine with the longest context among those with
/// measured costs. `take` gets the pieces of each engine's requests, with the engine's index. Returns whether any
/// request goes on.
///
/// Each text is the one that its engine writes alone, to the bit.
///
/// # Errors
/// If there are too many sequences, the engines have different models, or a pass fails; all sequences are then as they
/// were.
pub fn step_together(
    engines: &mut [&mut Engine],
    take: &mut dyn FnMut(usize, RequestId, Piece),
) -> Result<bool> {
    let start = Instant::now();
    check_together(engines)?;
    round_together(engines)?;
    let (time, mut goes_on) = (start.elapsed(), false);
    for (e, engine) in engines.iter_mut().enumerate() {
        let tokenizer = engine.target.model().tokenizer();
        for Slot { stream, request, .. } in &mut engine.slots {
            let Some(request) = request else { continue };
            if !request.begun && stream.unread() > 0 {
                goes_on = true;
                continue;
            }
            match std::mem::replace(&mut request.begun, true) {
                false => stream.generate(&request.generation, tokenizer)?,
                true if stream.stop().is_none() => stream.spent(time),
                true => {}
            }
            stream.sample_pending(tokenizer);
            while let Some(piece) = stream.take(tokenizer) {
                take(e, request.id, piece);
            }
            goes_on |= stream.stop().is_none();
        }
    }
    Ok(goes_on)
}

/// Checks that these engines can share a pass.
fn check_together(engines: &[&mut Engine]) -> Result<()> {
    let running = |engine: &Engine| engine.slots.iter().filter(|s| s.request.is_some()).count();
    let n: usize = engines.iter().map(|engine| running(engine)).sum();
    if n > MAX_SEQUENCES {
        let what = format!("{n} sequences in one step; at most {MAX_SEQUENCES} fit");
        return Err(Error::Invalid(what));
    }
    let same = |engine: &&mut Engine| Arc::ptr_eq(engine.model(), engines[0].model());
    if !engines.iter().all(same) {
        let what = "the sequences are of different models; step those of one";
        return Err(Error::Invalid(what.into()));
    }
    Ok(())
}

/// One round of all sequences that are written.
fn round_together(engines: &mut [&mut Engine]) -> Result<()> {
    let by_context = engines.iter().enumerate().rev();
    let Some((lead, _)) = by_context.max_by_key(|(_, engine)| engine.n_ctx()) else {
        return Ok(());
    };
    let planning = planning(engines).unwrap_or(lead);
    if engines.len() > 1 {
        let taps: Vec<Vec<usize>> = engines.iter().flat_map(|engine| engine.taps()).collect();
        engines[lead].target.tap(taps.iter().map(Vec::as_slice))?;
    }
    let (mut target, mut planner) = (None, None);
    let mut drafters: SmallVec<[&mut Speculation; MAX_SEQUENCES]> = SmallVec::new();
    let mut streams: SmallVec<[&mut Stream; MAX_SEQUENCES]> = SmallVec::new();
    let mut reading: SmallVec<[(u64, &mut Stream); MAX_SEQUENCES]> = SmallVec::new();
    let mut unread = engines[lead].n_ubatch;
    for (e, engine) in engines.iter_mut().enumerate() {
        let tokenizer = engine.target.model().tokenizer();
        let running = engine.slots.iter_mut().filter(|slot| slot.request.is_some());
        for Slot { stream, last_used, .. } in running {
            stream.sample_pending(tokenizer);
            if stream.unread() > 0 {
                reading.push((*last_used, stream));
            } else if stream.needs_round() {
                streams.push(stream);
            }
        }
        drafters.extend(speculations(&mut engine.drafters));
        if e == lead {
            target = Some(&mut engine.target);
        }
        if e == planning {
            planner = Some(&mut engine.planner);
        }
    }
    // Prompts are read in order of their requests; all chunks of a pass together have at most one chunk's length.
    reading.sort_unstable_by_key(|(last_used, _)| *last_used);
    for (_, stream) in reading {
        stream.set_chunk(unread);
        unread -= stream.chunk();
        if stream.is_reading() {
            streams.push(stream);
        }
    }
    let (Some(target), Some(planner)) = (target, planner) else { return Ok(()) };
    if streams.is_empty() { Ok(()) } else { round(target, &mut drafters, &mut streams, planner) }
}

/// Index of the engine whose planner decides in [`step_together`] and learns from it.
pub fn planning(engines: &[&mut Engine]) -> Option<usize> {
    let planned = engines.iter().enumerate().filter(|(_, engine)| engine.planner.costs().is_some());
    planned.rev().max_by_key(|(_, engine)| engine.n_ctx()).map(|(e, _)| e)
}
