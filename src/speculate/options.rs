//! From the user's options to a configured drafter, with a planner or without.

use super::calibrate::{AcceptanceCounts, Calibrator, drafter_id};
use super::speculation::{SpecSampling, Speculation};
use crate::draft::{self, DraftDevice, Drafter, DrafterContext, DrafterKind, DrafterMemory};
use crate::draft::{Placement, SpecType};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::planner::LARGEST;
use crate::planner::cost::Costs;
use crate::planner::{Planner, Policy};
use crate::setting::{Advice, Choice, Setting};
use crate::tree::{MAX_NODES, TreeShape};
use std::path::PathBuf;

/// The user's options of speculative decoding.
#[derive(Clone, Debug)]
pub struct SpecOptions {
    /// The kind of drafter.
    pub kind: SpecType,
    /// The drafter's file.
    pub file: Option<PathBuf>,
    /// How tree sizes are decided; by default by cost, or with rejection sampling the drafter's own shape.
    pub tree: Option<Policy>,
    /// Largest number of drafted tokens on a path, in place of the tree's depth; 0 for none.
    pub depth: Option<usize>,
    /// Smallest probability of a path, in place of the drafter's default.
    pub p_min: Option<f32>,
    /// The acceptance rule.
    pub sampling: SpecSampling,
    /// Where the drafter runs.
    pub device: DraftDevice,
    /// Largest number of bytes of GPU memory that the drafter may take; `None` for no limit.
    pub vram_limit: Option<usize>,
    /// Whether no other drafter is opened on that GPU meanwhile: see [`Placement::alone`].
    pub alone: bool,
}

impl Default for SpecOptions {
    /// The drafter that is installed, if there is one, on the fastest device, with trees sized by cost.
    fn default() -> SpecOptions {
        SpecOptions {
            kind: SpecType::Auto,
            file: None,
            tree: None,
            depth: None,
            p_min: None,
            sampling: SpecSampling::default(),
            device: DraftDevice::default(),
            vram_limit: None,
            alone: false,
        }
    }
}

impl SpecOptions {
    /// Whether a drafter was asked for explicitly, so that its absence is an error.
    pub fn is_asked(&self) -> bool {
        !matches!(self.kind, SpecType::Auto) || self.file.is_some() || self.device.is_gpu()
    }

    /// Checks that all numbers are in range, that no options conflict, and that a requested GPU is there.
    ///
    /// # Errors
    /// If one of these does not hold.
    pub fn check(&self) -> Result<()> {
        let device = self.device;
        if let SpecType::Kind(row) = self.kind {
            self.check_kind(row)?;
        }
        self.check_numbers()?;
        if device.is_gpu() && self.sampling == SpecSampling::Rejection {
            let refusal = rejection().refuse("drafts on the CPU").or_leave_out(rejection());
            return Err(refusal.or_leave_out(Setting::DraftDevice.with(device)).into());
        }
        self.tree.map_or(Ok(()), |policy| self.check_policy(policy))?;
        device.check()
    }

    fn check_numbers(&self) -> Result<()> {
        if let Some(depth) = self.depth.filter(|depth| *depth >= MAX_NODES) {
            let refusal = Setting::DraftDepth.with(depth).refuse("is out of range");
            let give = format!("give a number from 0 to {}", MAX_NODES - 1);
            return Err(refusal.or(Advice::Do(give)).into());
        }
        Ok(self.p_min.map_or(Ok(()), |p_min| Setting::DraftPMin.check(p_min))?)
    }

    /// Checks that trees may be sized by `policy`.
    ///
    /// # Errors
    /// If drafted tokens are sampled and the policy prunes trees.
    pub fn check_policy(&self, policy: Policy) -> Result<()> {
        match (policy, self.sampling) {
            (Policy::Cost | Policy::Cast(_), SpecSampling::Rejection) => {
                let tree = Setting::Tree.with(policy);
                let refusal = tree
                    .clone()
                    .refuse("cuts trees, and sampled draft tokens may not be cut")
                    .or_leave_out(tree);
                Err(refusal.or_leave_out(rejection()).into())
            }
            _ => Ok(()),
        }
    }

    fn check_kind(&self, row: &draft::DrafterKind) -> Result<()> {
        let device = self.device;
        if device.is_gpu() && !row.is_for_gpu() {
            let what = format!("drafters of the kind {} run on the CPU", row.name);
            let choice = Setting::DraftDevice.with(device);
            return Err(choice.clone().refuse_since(what).or_leave_out(choice).into());
        }
        Ok(())
    }

    /// The memory of the drafter that would be [opened](SpecOptions::open) for this model, as if it ran on the CPU; `None`
    /// if it has no file, or one that opening it will complain about, or runs on a GPU that was asked for.
    pub(crate) fn memory(&self, model: &Model) -> Option<DrafterMemory> {
        let is_used = self.depth != Some(0) && !self.device.is_gpu();
        let chosen = is_used.then(|| draft::choose(self.kind, self.file.as_deref(), model))?;
        let (_, path) = chosen.ok().flatten()?;
        DrafterMemory::of(&path?, model.config().n_vocab).ok()
    }

    /// Opens the drafter, if there is one.
    ///
    /// # Errors
    /// If it cannot be opened, or is for another model.
    pub fn open(&self, setup: DrafterContext) -> Result<Option<ConfiguredDrafter>> {
        self.check_numbers()?;
        let chosen = draft::choose(self.kind, self.file.as_deref(), setup.target)?;
        let Some((row, path)) = chosen.filter(|_| self.depth != Some(0)) else {
            return Ok(None);
        };
        self.check_kind(row)?;
        let drawn = self.sampling == SpecSampling::Rejection;
        let usual = if drawn { Policy::Fixed(row.growth) } else { Policy::Cost };
        let policy = self.tree.unwrap_or(usual);
        let largest = if let Policy::Fixed(growth) = policy { growth } else { LARGEST };
        let growth = self.depth.map_or(largest, |depth| largest.with_depth(depth));
        let placement = Placement {
            device: self.device,
            vram_limit: self.vram_limit,
            growth: Some(growth),
            drawn,
            alone: self.alone,
        };
        let context = DrafterContext { path: path.as_deref(), placement, ..setup };
        let drafter = (row.open)(&context)?;
        Ok(Some(ConfiguredDrafter {
            drafter,
            policy,
            row,
            path,
            usual: self.tree.is_none(),
            depth: self.depth,
            p_min: self.p_min,
            sampling: self.sampling,
        }))
    }
}

/// The option of the rule that samples drafted tokens.
fn rejection() -> Choice {
    Setting::SpecSampling.with("rejection")
}

/// An opened drafter and the options for it.
pub struct ConfiguredDrafter {
    /// The drafter.
    pub drafter: Box<dyn Drafter>,
    /// How tree sizes are decided.
    pub policy: Policy,
    row: &'static DrafterKind,
    path: Option<PathBuf>,
    /// Whether the policy is the default.
    usual: bool,
    depth: Option<usize>,
    p_min: Option<f32>,
    sampling: SpecSampling,
}

impl ConfiguredDrafter {
    /// The speculation, for use with a planner or without.
    pub fn speculation(self, planned: bool) -> Speculation {
        let (growth, p_min) = self.limits(planned);
        Speculation::new(self.drafter, growth).with_p_min(p_min).with_sampling(self.sampling)
    }

    /// The largest tree without a planner, and the smallest probability of a path.
    fn limits(&self, planned: bool) -> (TreeShape, f32) {
        let (growth, p_min) = match self.policy {
            // An explicitly requested shape is not reduced by a probability.
            Policy::Fixed(growth) => (growth, if self.usual { self.row.p_min } else { 0.0 }),
            _ if planned => (LARGEST, 0.0),
            _ => (self.row.growth, self.row.p_min),
        };
        let growth = self.depth.map_or(growth, |depth| growth.with_depth(depth));
        (growth, self.p_min.unwrap_or(p_min))
    }

    /// A planner for up to `batch` sequences, and the place where acceptance rates are kept. Measures the costs of
    /// passes first if they are unknown. `None` if trees have a fixed size, unless `even_if_fixed`.
    ///
    /// # Errors
    /// If a pass fails, or the calibration was ended.
    pub fn planner(
        &mut self,
        even_if_fixed: bool,
        batch: usize,
        mut calibrator: Calibrator,
    ) -> Result<Option<(Planner, AcceptanceCounts)>> {
        if matches!(self.policy, Policy::Fixed(_)) && !even_if_fixed {
            return Ok(None);
        }
        let Some(costs) = self.costs(batch, &mut calibrator)? else {
            return Err(Error::Cancelled("measuring"));
        };
        let counts = AcceptanceCounts::of(&self.id()?, calibrator.model());
        let planner = Planner::new(self.policy, costs, counts.load(self.path.as_deref()));
        let depth = self.depth.unwrap_or(LARGEST.depth);
        let fixed = matches!(self.policy, Policy::Fixed(_));
        Ok(Some((if fixed { planner } else { planner.with_depth(depth) }, counts)))
    }

    /// Costs of passes of up to `batch` sequences and of the drafter; `None` if the calibration was ended.
    ///
    /// # Errors
    /// If a pass fails.
    pub fn costs(&mut self, batch: usize, calibrator: &mut Calibrator) -> Result<Option<Costs>> {
        let id = self.id()?;
        calibrator.costs(batch, &mut *self.drafter, &id)
    }

    /// Identifies the drafter in the keys of stored costs and counts.
    fn id(&self) -> Result<String> {
        drafter_id(self.row.name, self.path.as_deref())
    }

    /// The kind of drafter and its file.
    pub fn kind(&self) -> String {
        let from = self.path.iter().map(|path| format!(" from {}", path.display()));
        format!("{}{}", self.row.name, from.collect::<String>())
    }

    /// The drafter's kind and place.
    pub fn kind_and_place(&self) -> String {
        format!("{} {}", self.kind(), self.drafter.place())
    }

    /// A line that describes it.
    pub fn description(&self) -> String {
        let p_min = self.limits(true).1;
        let p_min = if p_min > 0.0 { format!(", p-min {p_min}") } else { String::new() };
        let tree = match self.policy {
            Policy::Fixed(_) => self.limits(true).0.to_string(),
            policy => policy.to_string(),
        };
        format!("{}, tree {tree}{p_min}", self.kind_and_place())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_asked_for_is_refused() {
        let rejection = SpecSampling::Rejection;
        let ngram = draft::kind("ngram").unwrap();
        for (asked, line) in [
            (
                SpecOptions { depth: Some(64), ..SpecOptions::default() },
                "the largest number of draft tokens on a path (64) is out of range; give a number from 0 to 63",
            ),
            (
                SpecOptions { p_min: Some(1.5), ..SpecOptions::default() },
                "the least probability of a draft token (1.5) is out of range; give a number from 0 to 1",
            ),
            (
                SpecOptions {
                    tree: Some(Policy::Cost),
                    sampling: rejection,
                    ..SpecOptions::default()
                },
                "the size of trees (cost) cuts trees, and sampled draft tokens may not be cut; leave it out \
                 or the rule of acceptance (rejection)",
            ),
            (
                SpecOptions {
                    device: DraftDevice::Gpu(Some(1)),
                    kind: SpecType::Kind(ngram),
                    ..SpecOptions::default()
                },
                "drafters of the kind ngram run on the CPU; leave out the device of the drafter (gpu1)",
            ),
        ] {
            assert_eq!(asked.check().unwrap_err().to_string(), line);
        }
        for fine in [
            SpecOptions { depth: Some(63), p_min: Some(1.0), ..SpecOptions::default() },
            SpecOptions { sampling: rejection, ..SpecOptions::default() },
        ] {
            fine.check().unwrap();
        }
    }
}
