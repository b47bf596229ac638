//! From what is asked of guessing to a drafter at work, with a planner or without.

use super::calibrate::{Calibrator, Counts, about_drafter};
use super::speculation::{SpecSampling, Speculation};
use crate::draft::{self, DraftDevice, Drafter, DrafterContext, DrafterKind, Placement, SpecType};
use crate::error::Result;
use crate::planner::LARGEST;
use crate::planner::cost::Costs;
use crate::planner::{Planner, Policy};
use crate::setting::{Advice, Choice, Setting};
use crate::tree::{MAX_NODES, TreeShape};
use std::path::PathBuf;

/// What is asked of guessing.
#[derive(Clone, Debug)]
pub struct SpecOptions {
    /// Who guesses.
    pub kind: SpecType,
    /// The drafter's file.
    pub file: Option<PathBuf>,
    /// How large trees are; if nobody says, as large as pays, by rejection the drafter's.
    pub tree: Option<Policy>,
    /// Guesses on a path at most, in place of the tree's depth; 0 for none.
    pub depth: Option<usize>,
    /// The least probability of a path, in place of the drafter's.
    pub p_min: Option<f32>,
    /// Which guesses are accepted.
    pub sampling: SpecSampling,
    /// Where the drafter runs.
    pub device: DraftDevice,
    /// Bytes of a GPU's memory that it may take, if not all.
    pub vram_limit: Option<usize>,
    /// Whether no other drafter is opened on that GPU while it lives: see [`Placement::alone`].
    pub alone: bool,
}

impl Default for SpecOptions {
    /// The drafter that lies ready, if there is one, where it runs fastest, with trees as large as pays.
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
    /// Whether somebody asked for a drafter: then it is an error if there is none.
    pub fn is_asked(&self) -> bool {
        !matches!(self.kind, SpecType::Auto) || self.file.is_some() || self.device.is_gpu()
    }

    /// Whether all numbers are in range, nothing that is asked for excludes another, and the GPU is there that is.
    ///
    /// # Errors
    /// When that is not so.
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

    /// Whether trees may be sized so.
    ///
    /// # Errors
    /// When guesses are drawn, and the policy cuts trees.
    pub fn check_policy(&self, policy: Policy) -> Result<()> {
        match (policy, self.sampling) {
            (Policy::Cost | Policy::Cast(_), SpecSampling::Rejection) => {
                let tree = Setting::Tree.with(policy);
                let refusal = tree
                    .clone()
                    .refuse("cuts trees, and guesses that are drawn may not be cut")
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

    /// The drafter that is opened with this, if there is one.
    ///
    /// # Errors
    /// When it cannot be opened, or is for another model.
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

/// The rule that draws guesses.
fn rejection() -> Choice {
    Setting::SpecSampling.with("rejection")
}

/// A drafter, and what was asked of it.
pub struct ConfiguredDrafter {
    /// The drafter.
    pub drafter: Box<dyn Drafter>,
    /// What decides how large trees are.
    pub policy: Policy,
    row: &'static DrafterKind,
    path: Option<PathBuf>,
    /// Whether nobody asked for a policy.
    usual: bool,
    depth: Option<usize>,
    p_min: Option<f32>,
    sampling: SpecSampling,
}

impl ConfiguredDrafter {
    /// At work, with a planner or without.
    pub fn speculation(self, planned: bool) -> Speculation {
        let (growth, p_min) = self.limits(planned);
        Speculation::new(self.drafter, growth).with_p_min(p_min).with_sampling(self.sampling)
    }

    /// The largest tree without a planner, and the least probability of a path.
    fn limits(&self, planned: bool) -> (TreeShape, f32) {
        let (growth, p_min) = match self.policy {
            // A shape that is asked for is had.
            Policy::Fixed(growth) => (growth, if self.usual { self.row.p_min } else { 0.0 }),
            _ if planned => (LARGEST, 0.0),
            _ => (self.row.growth, self.row.p_min),
        };
        let growth = self.depth.map_or(growth, |depth| growth.with_depth(depth));
        (growth, self.p_min.unwrap_or(p_min))
    }

    /// What chooses how large trees are, for up to `batch` sequences, and where it is kept how often guesses are
    /// right; what passes cost is measured first, unless that is known. None where trees have one size, if not `even
    /// then`, or the end came before.
    ///
    /// # Errors
    /// When a pass fails.
    pub fn planner(
        &mut self,
        even_then: bool,
        batch: usize,
        mut calibrator: Calibrator,
    ) -> Result<Option<(Planner, Counts)>> {
        if matches!(self.policy, Policy::Fixed(_)) && !even_then {
            return Ok(None);
        }
        let costs = self.costs(batch, &mut calibrator)?;
        let counts = Counts::of(&self.name()?, calibrator.model());
        Ok(costs.map(|costs| {
            let planner = Planner::new(self.policy, costs, counts.load(self.path.as_deref()));
            let depth = self.depth.unwrap_or(LARGEST.depth);
            let fixed = matches!(self.policy, Policy::Fixed(_));
            (if fixed { planner } else { planner.with_depth(depth) }, counts)
        }))
    }

    /// What passes of up to `batch` sequences and the drafter's cost; none if the end came before.
    ///
    /// # Errors
    /// When a pass fails.
    pub fn costs(&mut self, batch: usize, calibrator: &mut Calibrator) -> Result<Option<Costs>> {
        let name = self.name()?;
        calibrator.costs(batch, &mut *self.drafter, &name)
    }

    /// What tells it from other drafters.
    fn name(&self) -> Result<String> {
        about_drafter(self.row.name, self.path.as_deref())
    }

    /// What kind of drafter it is, and from which file.
    pub fn kind(&self) -> String {
        let from = self.path.iter().map(|path| format!(" from {}", path.display()));
        format!("{}{}", self.row.name, from.collect::<String>())
    }

    /// Who guesses, and where.
    pub fn who(&self) -> String {
        format!("{} {}", self.kind(), self.drafter.place())
    }

    /// A line about it.
    pub fn about(&self) -> String {
        let p_min = self.limits(true).1;
        let p_min = if p_min > 0.0 { format!(", p-min {p_min}") } else { String::new() };
        let tree = match self.policy {
            Policy::Fixed(_) => self.limits(true).0.to_string(),
            policy => policy.to_string(),
        };
        format!("{}, tree {tree}{p_min}", self.who())
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
                "the largest number of guesses on a path (64) is out of range; give a number from 0 to 63",
            ),
            (
                SpecOptions { p_min: Some(1.5), ..SpecOptions::default() },
                "the least probability of a guess (1.5) is out of range; give a number from 0 to 1",
            ),
            (
                SpecOptions {
                    tree: Some(Policy::Cost),
                    sampling: rejection,
                    ..SpecOptions::default()
                },
                "the size of trees (cost) cuts trees, and guesses that are drawn may not be cut; leave it out \
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
