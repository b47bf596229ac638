//! A drafter and its options, and its state for one sequence.

use super::stats::RoundStats;
use crate::draft::{CandidateSelector, DraftState, Drafter};
use crate::error::{Error, Result};
use crate::tree::{MAX_NODES, TreeShape};
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The acceptance rule: see `accept.rs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpecSampling {
    /// Rule A: accepts a drafted token that equals the token plain decoding samples.
    #[default]
    Matching,
    /// Rule B: accepts sampled tokens so often that the distribution of the text is preserved.
    Rejection,
}

impl FromStr for SpecSampling {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<SpecSampling, String> {
        match text {
            "matching" => Ok(SpecSampling::Matching),
            "rejection" => Ok(SpecSampling::Rejection),
            _ => Err("there are matching, rejection".into()),
        }
    }
}

/// When a sequence uses its drafter. The text does not depend on it under [`SpecSampling::Matching`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Drafting {
    /// Never.
    Off,
    /// When it pays.
    #[default]
    Auto,
    /// Always.
    On,
}

/// A drafter, the limits of its trees, and the acceptance rule.
pub struct Speculation {
    drafter: Box<dyn Drafter>,
    shape: TreeShape,
    p_min: f32,
    sampling: SpecSampling,
    tag: Tag,
}

/// Identifies a drafter and the drafters that accept its states.
#[derive(Clone, Copy)]
struct Tag {
    drafter: usize,
    family: Option<u64>,
}

impl Speculation {
    /// With trees of up to this shape, and [`SpecSampling::Matching`].
    pub fn new(drafter: Box<dyn Drafter>, shape: TreeShape) -> Speculation {
        static DRAFTERS: AtomicUsize = AtomicUsize::new(0);
        let tag = Tag { drafter: DRAFTERS.fetch_add(1, Relaxed), family: None };
        let sampling = SpecSampling::default();
        Speculation { drafter, shape, p_min: 0.0, sampling, tag }
    }

    /// Drops drafted tokens whose path has a lower probability than `p_min`, by the drafter.
    pub fn with_p_min(self, p_min: f32) -> Speculation {
        Speculation { p_min, ..self }
    }

    /// Sets the acceptance rule.
    pub fn with_sampling(self, sampling: SpecSampling) -> Speculation {
        Speculation { sampling, ..self }
    }

    /// The drafter.
    pub fn drafter(&self) -> &dyn Drafter {
        &*self.drafter
    }

    /// The drafter, for work with it.
    pub(crate) fn drafter_mut(&mut self) -> &mut dyn Drafter {
        &mut *self.drafter
    }

    /// A notice for users about a fault that the drafter recovered from; returned once.
    pub fn take_notice(&mut self) -> Option<String> {
        self.drafter.take_notice()
    }

    /// Number of nodes of the largest tree.
    pub(crate) fn most_nodes(&self) -> usize {
        self.shape.nodes.clamp(1, MAX_NODES)
    }

    /// The drafter's state for a sequence, which must be notified of all its tokens.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub(crate) fn join(&mut self) -> Result<Draft> {
        let state = self.drafter.state()?;
        let tag = Tag { family: self.drafter.family(), ..self.tag };
        let depths = Vec::with_capacity(MAX_NODES);
        Ok(Draft {
            tag,
            state,
            taps: self.drafter.taps().to_vec(),
            selector: CandidateSelector::default(),
            shape: self.shape,
            floor: if self.p_min > 0.0 { self.p_min.ln() } else { f32::NEG_INFINITY },
            sampling: self.sampling,
            len: 0,
            paused: 0,
            skips: false,
            failure: None,
            stats: RoundStats { depths, ..RoundStats::default() },
        })
    }

    /// Whether this speculation made `draft`.
    pub(super) fn made(&self, draft: &Draft) -> bool {
        self.tag.drafter == draft.tag.drafter
    }

    /// Whether its drafter accepts the state of `draft`.
    pub(super) fn serves(&self, draft: &Draft) -> bool {
        let family = self.drafter.family();
        self.made(draft) || family.is_some() && family == draft.tag.family
    }
}

/// A drafter's state for one sequence.
pub(crate) struct Draft {
    tag: Tag,
    pub state: DraftState,
    /// Layers whose input hidden states the drafter reads.
    pub taps: Vec<usize>,
    pub selector: CandidateSelector,
    /// The largest shape of a tree.
    pub shape: TreeShape,
    /// Log probability below which no path is kept.
    pub floor: f32,
    pub sampling: SpecSampling,
    /// Length of the part of the sequence that the drafter was notified of.
    pub len: usize,
    /// Number of last rounds in which the planner paused drafting.
    pub paused: usize,
    /// Whether the drafter may drop pending positions.
    pub skips: bool,
    pub failure: Option<Error>,
    pub stats: RoundStats,
}

/// The drafter among these that accepts the state of `draft`.
pub(super) fn drafter_of<'a>(
    drafters: &'a mut [&mut Speculation],
    draft: &Draft,
) -> Option<&'a mut dyn Drafter> {
    let found = drafters.iter_mut().find(|speculation| speculation.serves(draft));
    found.map(|speculation| speculation.drafter_mut())
}
