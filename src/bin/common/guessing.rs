//! Flags that say who guesses, and the drafter they ask for.

use clap::Args;
use dovetail::draft::{self, DraftDevice, Drafter, Placement, Row, Setup, SpecType};
use dovetail::spec::calibrate::{Calibrator, Counts, about_drafter};
use dovetail::spec::{SpecSampling, Speculation};
use dovetail::tree::cost::Costs;
use dovetail::tree::plan::LARGEST;
use dovetail::tree::{Growth, Planner, Policy};
use dovetail::{Engine, Error, Result};
use std::path::PathBuf;

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Speculation")]
pub struct Guessing {
    /// Who guesses tokens ahead, which changes the speed and never the text: none; ngram, what followed the
    /// last tokens earlier in the text; lm, a small model with the same vocabulary; dgf, a drafter
    /// trained for the model; auto, dgf where there is one, or what -md names
    #[arg(long, value_name = "TYPE", default_value = "auto", env = "DOVETAIL_SPEC_TYPE")]
    pub spec_type: SpecType,
    /// The drafter's file [-md]
    #[arg(long, value_name = "FILE", env = "DOVETAIL_MODEL_DRAFT")]
    pub model_draft: Option<PathBuf>,
    /// How large a tree of guesses grows: cost, as large as pays on this machine, which is measured at the first
    /// use of a model; chain:K or beam:DEPTH,WIDTH,NODES, always so large, as eagle2:60 and eagle2:16 are; cast
    /// or cast:C1,C2,C3, by thresholds [default: cost, by rejection the drafter's]
    #[arg(long, value_name = "POLICY", env = "DOVETAIL_TREE")]
    pub tree: Option<Policy>,
    /// Guesses on a path at most, in place of the tree's depth; 0 for none [--draft-max, --draft]
    #[arg(long, value_name = "N", visible_aliases = ["draft-max", "draft"])]
    #[arg(value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(0..=63))]
    #[arg(env = "DOVETAIL_SPEC_DRAFT_N_MAX")]
    pub spec_draft_n_max: Option<usize>,
    /// Guesses are left out whose path from the last token, not they alone, has a lower probability than
    /// this, as the drafter sees it; by rejection they are not continued [--draft-p-min] [default: the
    /// drafter's]
    #[arg(long, value_name = "P", visible_alias = "draft-p-min", value_parser = probability)]
    #[arg(env = "DOVETAIL_SPEC_DRAFT_P_MIN")]
    pub spec_draft_p_min: Option<f32>,
    /// Which guesses are accepted: matching, those that are the token plain decoding draws; rejection,
    /// more of them where the temperature is high, with another text of the same distribution
    #[arg(long, value_name = "RULE", default_value = "matching")]
    #[arg(env = "DOVETAIL_SPEC_SAMPLING")]
    pub spec_sampling: SpecSampling,
    /// Where a trained drafter runs: auto, on a GPU if one can be used; cpu; gpu; or gpu0, gpu1, … as
    /// dovetail-run --list-devices counts
    #[arg(long, value_name = "DEVICE", default_value = "auto", env = "DOVETAIL_DRAFT_DEVICE")]
    #[arg(help_heading = "Devices")]
    pub draft_device: DraftDevice,
    /// MiB of the GPU's memory that the drafter may take [default: all]
    #[arg(long, value_name = "MIB", env = "DOVETAIL_VRAM_LIMIT", help_heading = "Devices")]
    #[arg(value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub vram_limit: Option<usize>,
    /// For llama.cpp's sake: 0 is --draft-device cpu, any other number, auto or all changes nothing, since
    /// a drafter is on one device as a whole [-ngld]
    #[arg(long, visible_alias = "n-gpu-layers-draft", value_name = "N", value_parser = layers)]
    #[arg(allow_negative_numbers = true, help_heading = "Devices")]
    pub gpu_layers_draft: Option<i64>,
}

/// A drafter, and what was asked of it.
pub struct Opened {
    pub drafter: Box<dyn Drafter>,
    /// What decides how large trees are.
    pub policy: Policy,
    row: &'static Row,
    path: Option<PathBuf>,
    /// Whether nobody asked for a policy.
    usual: bool,
    depth: Option<usize>,
    p_min: Option<f32>,
    sampling: SpecSampling,
}

impl Opened {
    /// One more, for another sequence.
    ///
    /// # Errors
    /// When it cannot be opened.
    fn another(&self) -> Option<Result<Opened>> {
        let drafter = self.drafter.another()?;
        Some(drafter.map(|drafter| Opened { drafter, path: self.path.clone(), ..*self }))
    }

    /// At work, with a planner or without.
    pub fn speculation(self, planned: bool) -> Speculation {
        let (growth, p_min) = self.limits(planned);
        Speculation::new(self.drafter, growth).with_p_min(p_min).with_sampling(self.sampling)
    }

    /// The largest tree without a planner, and the least probability of a path.
    fn limits(&self, planned: bool) -> (Growth, f32) {
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

    /// Who guesses, and where.
    pub fn who(&self) -> String {
        let from = self.path.iter().map(|path| format!(" from {}", path.display()));
        format!("{}{} {}", self.row.name, from.collect::<String>(), self.drafter.place())
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

/// Layers on a GPU as llama.cpp counts them: a number, or words for as many as fit.
fn layers(text: &str) -> std::result::Result<i64, String> {
    match text {
        "auto" | "all" => Ok(-1),
        _ => text.parse().map_err(|_| "give a number, auto or all".into()),
    }
}

fn probability(text: &str) -> std::result::Result<f32, String> {
    let value = text.parse().ok().filter(|p| (0.0..=1.0).contains(p));
    value.ok_or_else(|| "give a number from 0 to 1".into())
}

impl Guessing {
    /// Where the drafter is to run.
    pub fn device(&self) -> DraftDevice {
        if self.gpu_layers_draft == Some(0) { DraftDevice::Cpu } else { self.draft_device }
    }

    /// What clap cannot check, and whether the GPU is there that was asked for.
    ///
    /// # Errors
    /// When flags contradict each other, or the GPU is not there.
    pub fn check(&self) -> Result<()> {
        let (asked, device) = (self.draft_device, self.device());
        let wrong = |what: String| Err(Error::Invalid(what));
        if asked.is_gpu() && !device.is_gpu() {
            return wrong(format!(
                "-ngld 0 and --draft-device {asked} (DOVETAIL_DRAFT_DEVICE) contradict each other; leave one out"
            ));
        }
        if let SpecType::Kind(row) = self.spec_type {
            self.check_kind(row)?;
        }
        if device.is_gpu() && self.spec_sampling == SpecSampling::Rejection {
            return wrong(format!(
                "--spec-sampling rejection drafts on the CPU; leave it out or --draft-device {device} \
                 (DOVETAIL_DRAFT_DEVICE)"
            ));
        }
        if let Some(policy) = self.tree {
            self.check_policy(format_args!("--tree {policy} (DOVETAIL_TREE)"), policy)?;
        }
        device.check()
    }

    /// Whether trees may be sized as this flag has it.
    ///
    /// # Errors
    /// When guesses are drawn, and the policy cuts trees.
    pub fn check_policy(&self, flag: std::fmt::Arguments, policy: Policy) -> Result<()> {
        match (policy, self.spec_sampling) {
            (Policy::Cost | Policy::Cast(_), SpecSampling::Rejection) => {
                Err(Error::Invalid(format!(
                    "{flag} cuts trees, and guesses that are drawn may not be cut; leave it out, or \
                 --spec-sampling rejection"
                )))
            }
            _ => Ok(()),
        }
    }

    fn check_kind(&self, row: &draft::Row) -> Result<()> {
        let device = self.device();
        if device.is_gpu() && !row.is_for_gpu() {
            return Err(Error::Invalid(format!(
                "drafters of the kind {} run on the CPU; leave out --draft-device {device} \
                 (DOVETAIL_DRAFT_DEVICE)",
                row.name
            )));
        }
        Ok(())
    }

    /// A drafter for each of some sequences, if there is one.
    ///
    /// # Errors
    /// When one cannot be opened, or is for another model.
    pub fn open_all(&self, engine: &Engine, sequences: usize) -> Result<Vec<Opened>> {
        let mut opened = Vec::new();
        while opened.len() < sequences {
            // Where the GPU had no room for all, the last ones are on the CPU.
            let another = opened.last().and_then(Opened::another).map(|another| another.map(Some));
            match another.unwrap_or_else(|| self.open(engine.setup(None)))? {
                Some(one) => opened.push(one),
                None => break,
            }
        }
        Ok(opened)
    }

    /// The drafter that is opened with this, if there is one.
    ///
    /// # Errors
    /// When it cannot be opened, or is for another model.
    pub fn open(&self, setup: Setup) -> Result<Option<Opened>> {
        let chosen = draft::choose(self.spec_type, self.model_draft.as_deref(), setup.target)?;
        let Some((row, path)) = chosen.filter(|_| self.spec_draft_n_max != Some(0)) else {
            return Ok(None);
        };
        self.check_kind(row)?;
        let drawn = self.spec_sampling == SpecSampling::Rejection;
        let usual = if drawn { Policy::Fixed(row.growth) } else { Policy::Cost };
        let policy = self.tree.unwrap_or(usual);
        let largest = if let Policy::Fixed(growth) = policy { growth } else { LARGEST };
        let growth = self.spec_draft_n_max.map_or(largest, |depth| largest.with_depth(depth));
        let placement = Placement {
            device: self.device(),
            vram_limit: self.vram_limit.map(|mib| mib.saturating_mul(1 << 20)),
            growth: Some(growth),
            drawn,
        };
        let drafter = (row.open)(&Setup { path: path.as_deref(), placement, ..setup })?;
        Ok(Some(Opened {
            drafter,
            policy,
            row,
            path,
            usual: self.tree.is_none(),
            depth: self.spec_draft_n_max,
            p_min: self.spec_draft_p_min,
            sampling: self.spec_sampling,
        }))
    }
}
