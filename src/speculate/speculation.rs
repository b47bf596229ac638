//! A drafter and how it is used, and its part in one sequence.

use super::stats::RoundStats;
use crate::draft::{CandidateSelector, DraftState, Drafter};
use crate::error::{Error, Result};
use crate::tree::{MAX_NODES, TreeShape};
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Which drafted tokens are accepted: see `accept.rs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpecSampling {
    /// Those that are the token which plain decoding draws: rule A.
    #[default]
    Matching,
    /// As many as leave the distribution of the text what it is, of tokens that are drawn: rule B.
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

/// When a sequence that has a drafter uses it. The text does not show it.
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

/// A drafter, and how large its trees may be and what is accepted of them.
pub struct Speculation {
    drafter: Box<dyn Drafter>,
    shape: TreeShape,
    p_min: f32,
    sampling: SpecSampling,
    tag: Tag,
}

/// Tells which drafters a state may be given to.
#[derive(Clone, Copy)]
struct Tag {
    drafter: usize,
    family: Option<u64>,
}

impl Speculation {
    /// With trees of up to this shape, and tokens accepted where they match.
    pub fn new(drafter: Box<dyn Drafter>, shape: TreeShape) -> Speculation {
        static DRAFTERS: AtomicUsize = AtomicUsize::new(0);
        let tag = Tag { drafter: DRAFTERS.fetch_add(1, Relaxed), family: None };
        let sampling = SpecSampling::default();
        Speculation { drafter, shape, p_min: 0.0, sampling, tag }
    }

    /// Leaves out tokens whose path has a lower probability than this, as the drafter sees it.
    pub fn with_p_min(self, p_min: f32) -> Speculation {
        Speculation { p_min, ..self }
    }

    /// Accepts drafted tokens by this rule.
    pub fn with_sampling(self, sampling: SpecSampling) -> Speculation {
        Speculation { sampling, ..self }
    }

    /// The drafter.
    pub fn drafter(&self) -> &dyn Drafter {
        &*self.drafter
    }

    /// The drafter, to work with it.
    pub(crate) fn drafter_mut(&mut self) -> &mut dyn Drafter {
        &mut *self.drafter
    }

    /// What people should know of something that the drafter could help itself out of, once.
    pub fn take_notice(&mut self) -> Option<String> {
        self.drafter.take_notice()
    }

    /// Nodes of the largest tree.
    pub(crate) fn most_nodes(&self) -> usize {
        self.shape.nodes.clamp(1, MAX_NODES)
    }

    /// Its part in a sequence, of which it has seen nothing.
    ///
    /// # Errors
    /// When there is no memory for it.
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

    /// Whether this made the part.
    pub(super) fn made(&self, draft: &Draft) -> bool {
        self.tag.drafter == draft.tag.drafter
    }

    /// Whether the state of this part may be given to the drafter.
    pub(super) fn serves(&self, draft: &Draft) -> bool {
        let family = self.drafter.family();
        self.made(draft) || family.is_some() && family == draft.tag.family
    }
}

/// A drafter's part in one sequence.
pub(crate) struct Draft {
    tag: Tag,
    pub state: DraftState,
    /// Hidden states that the drafter learns from.
    pub taps: Vec<usize>,
    pub selector: CandidateSelector,
    /// The largest shape of a tree.
    pub shape: TreeShape,
    /// Logarithm of the least probability of a path.
    pub floor: f32,
    pub sampling: SpecSampling,
    /// Length of the sequence that the drafter was told of.
    pub len: usize,
    /// The last rounds in which drafting was left off, since it had not paid.
    pub paused: usize,
    /// Whether the drafter may drop what it has not taken in yet.
    pub skips: bool,
    pub failure: Option<Error>,
    pub stats: RoundStats,
}

/// The drafter among these that a part's state may be given to.
pub(super) fn drafter_of<'a>(
    drafters: &'a mut [&mut Speculation],
    draft: &Draft,
) -> Option<&'a mut dyn Drafter> {
    let found = drafters.iter_mut().find(|speculation| speculation.serves(draft));
    found.map(|speculation| speculation.drafter_mut())
}
