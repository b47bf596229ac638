//! An engine of one slot, as a session uses it.

use super::drafting::speculations;
use super::engine::Engine;
use super::request::{ActiveRequest, DrafterId, RequestId, Slot};
use crate::error::{Error, Result};
use crate::infer::Target;
use crate::speculate::stream::Stream;
use crate::speculate::{Generation, PromptOutput, Speculation, round};
use smallvec::SmallVec;

impl Engine {
    /// The only sequence of a session.
    pub(super) fn stream(&self) -> &Stream {
        &self.slots[0].stream
    }

    /// [`Engine::failure`] of the only sequence of a session.
    pub(super) fn session_failure(&self) -> Option<Error> {
        self.slots[0].failure(self.model())
    }

    /// Reads a chunk of the prompt of a session.
    ///
    /// # Errors
    /// Those of the target.
    pub(super) fn read_chunk(&mut self) -> Result<()> {
        let Engine { target, drafters, planner, slots, n_ubatch, .. } = self;
        let mut drafters: SmallVec<[_; 4]> = speculations(drafters).collect();
        let stream = &mut slots[0].stream;
        stream.set_chunk(*n_ubatch);
        round(target, &mut drafters, &mut [stream], planner)
    }

    /// The only sequence of a session, the target, and the drafters.
    pub(super) fn parts(&mut self) -> (&mut Stream, &mut Target, SmallVec<[&mut Speculation; 4]>) {
        let drafters = speculations(&mut self.drafters).collect();
        (&mut self.slots[0].stream, &mut self.target, drafters)
    }

    /// Gives the only sequence of a session a new state of this drafter.
    pub(super) fn join_session(&mut self, drafter: DrafterId) -> Result<()> {
        self.slots[0].stream.set_draft(None);
        self.join(0, Some(drafter))
    }

    /// Starts a generation in the only sequence of a session, whose prompt was read.
    ///
    /// # Errors
    /// If a number of the sampling is out of range, or a stop string cannot be tokenized.
    pub(super) fn begin_session(&mut self, generation: Generation) -> Result<()> {
        self.requests += 1;
        let (id, slot) = (RequestId(self.requests), &mut self.slots[0]);
        slot.request = None;
        slot.stream.generate(&generation, self.target.model().tokenizer())?;
        let prompt_len = slot.stream.tokens().len();
        let output = PromptOutput::None;
        slot.request = Some(ActiveRequest { id, prompt_len, generation, output, begun: true });
        Ok(())
    }

    /// Ends the generation in the only sequence of a session, and starts to read `prompt`.
    pub(super) fn prompt_session(&mut self, prompt: &[u32]) {
        let Slot { stream, request, .. } = &mut self.slots[0];
        *request = None;
        stream.start_prompt(prompt, PromptOutput::None);
    }
}
