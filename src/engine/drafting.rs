//! The drafters of an engine.

use super::engine::Engine;
use super::request::{DrafterId, Slot};
use crate::draft::DrafterContext;
use crate::error::{Error, Result};
use crate::planner::Planner;
use crate::speculate::calibrate::AcceptanceCounts;
use crate::speculate::{ConfiguredDrafter, PromptOutput, Speculation};
use std::path::Path;

impl Engine {
    /// Attaches an opened drafter with a planner for all slots in a pass. Measures the costs of passes first if they
    /// are unknown; with `explained`, also if all trees have one shape. `progress` gets the fraction that is measured
    /// and ends the measurement with `false`. Returns the drafter's identifier.
    ///
    /// # Errors
    /// If a pass fails, the model lacks something the drafter needs, or `progress` ended the measurement.
    pub fn attach(
        &mut self,
        mut opened: ConfiguredDrafter,
        explained: bool,
        progress: &mut dyn FnMut(f64) -> bool,
    ) -> Result<DrafterId> {
        let batch = self.slots.len();
        let planned = opened.planner(explained, batch, self.calibrator(progress))?;
        let id = self.add_drafter(opened.speculation(planned.is_some()))?;
        self.plan_and_count(planned);
        Ok(id)
    }

    /// Sets the planner, and the place where acceptance rates are kept.
    pub(super) fn plan_and_count(&mut self, planned: Option<(Planner, AcceptanceCounts)>) {
        let (planner, counts) = planned.unzip();
        self.plan(planner.unwrap_or_default());
        self.counts = counts;
    }

    /// Saves acceptance rates in the cache directory, where the next start finds them.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save_acceptance(&self) -> std::io::Result<()> {
        self.counts.as_ref().map_or(Ok(()), |counts| counts.save(self.planner.stats()))
    }

    /// The context in which a drafter for this engine is opened; `path` is the drafter's file.
    pub fn setup<'a>(&'a self, path: Option<&'a Path>) -> DrafterContext<'a> {
        DrafterContext::new(&self.target, path)
    }

    /// Adds a drafter. It drafts for requests that name it; the first one also drafts for requests that name none.
    ///
    /// # Errors
    /// If the model lacks something it needs.
    pub fn add_drafter(&mut self, speculation: Speculation) -> Result<DrafterId> {
        self.joined += 1;
        let id = DrafterId(self.joined);
        self.drafters.push((id, speculation));
        if let Err(error) = self.tap() {
            self.drafters.pop();
            return Err(error);
        }
        let nodes = self.drafters.iter().map(|(_, speculation)| speculation.most_nodes()).max();
        self.target.reserve(self.slots.len() * nodes.unwrap_or(1));
        Ok(id)
    }

    /// Removes a drafter; sequences that it drafted for go on without it.
    pub fn remove_drafter(&mut self, id: DrafterId) -> Option<Speculation> {
        let place = self.drafters.iter().position(|(other, _)| *other == id)?;
        let (_, speculation) = self.drafters.remove(place);
        for Slot { stream, .. } in &mut self.slots {
            if stream.is_drafted_by(&speculation) {
                stream.set_draft(None);
            }
        }
        Some(speculation)
    }

    /// A drafter and its options.
    pub fn drafter(&self, id: DrafterId) -> Option<&Speculation> {
        self.drafters.iter().find(|(other, _)| *other == id).map(|(_, speculation)| speculation)
    }

    /// A notice for users about a fault that a drafter recovered from; returned once.
    pub fn take_drafter_notice(&mut self) -> Option<String> {
        self.drafters.iter_mut().find_map(|(_, speculation)| speculation.take_notice())
    }

    /// Lets passes copy out the hidden states that the drafters read, and those that become embeddings.
    fn tap(&mut self) -> Result<()> {
        let taps = self.taps();
        self.target.tap(taps.iter().map(Vec::as_slice))
    }

    /// Lets passes copy out the hidden states of embeddings from now on, or no longer, if a request with this output has
    /// come or gone.
    pub(super) fn tap_embeddings(&mut self, output: PromptOutput) {
        if output.is_embedding() {
            self.tap().expect("every model has them");
        }
    }

    /// The sets of hidden states that passes copy out: see [`Target::tap`](crate::infer::Target::tap).
    pub(super) fn taps(&self) -> Vec<Vec<usize>> {
        let drafters = self.drafters.iter();
        let taps = drafters.map(|(_, speculation)| speculation.drafter().taps().to_vec());
        let mut requests = self.slots.iter().filter_map(|slot| slot.request.as_ref());
        let embeds = requests.any(|request| request.output.is_embedding());
        taps.chain(embeds.then(|| vec![self.model().config().n_layers])).collect()
    }

    /// Gives a slot's sequence a state of this drafter, unless it has one.
    pub(super) fn join(&mut self, place: usize, drafter: Option<DrafterId>) -> Result<()> {
        let stream = &mut self.slots[place].stream;
        let named = |id: DrafterId| drafter.is_none_or(|named| named == id);
        match self.drafters.iter_mut().find(|(id, _)| named(*id)) {
            Some((_, speculation)) if stream.is_drafted_by(speculation) => {}
            Some((_, speculation)) => stream.set_draft(Some(speculation.join()?)),
            None if drafter.is_some() => {
                return Err(Error::Invalid("the drafter was removed; name another".into()));
            }
            None => stream.set_draft(None),
        }
        Ok(())
    }
}

/// Drafters without their numbers.
pub(super) fn speculations(
    drafters: &mut [(DrafterId, Speculation)],
) -> impl Iterator<Item = &mut Speculation> {
    drafters.iter_mut().map(|(_, speculation)| speculation)
}
