//! Flags that say who guesses, and the drafter they ask for.

use clap::Args;
use dovetail::draft::{self, DraftDevice, Drafter, Placement, Setup, SpecType};
use dovetail::spec::{SpecSampling, Speculation};
use dovetail::tree::Growth;
use dovetail::{Error, Result};
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
    /// How large a tree of guesses grows: chain:K, or beam:DEPTH,WIDTH,NODES [default: the drafter's]
    #[arg(long, value_name = "SHAPE", env = "DOVETAIL_TREE")]
    pub tree: Option<Growth>,
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

/// A drafter, the trees that it is asked for, and a line about both.
pub struct Opened {
    pub drafter: Box<dyn Drafter>,
    pub growth: Growth,
    pub p_min: f32,
    pub about: String,
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
        device.check()
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

    /// The drafter for this session at work, and a line about it.
    ///
    /// # Errors
    /// When it cannot be opened, or is for another model.
    pub fn open(&self, setup: Setup) -> Result<Option<(Speculation, String)>> {
        Ok(self.open_drafter(setup)?.map(|Opened { drafter, growth, p_min, about }| {
            let speculation = Speculation::new(drafter, growth).with_p_min(p_min);
            (speculation.with_sampling(self.spec_sampling), about)
        }))
    }

    /// The drafter for this session, and the trees that it is asked for.
    ///
    /// # Errors
    /// When it cannot be opened, or is for another model.
    pub fn open_drafter(&self, setup: Setup) -> Result<Option<Opened>> {
        let chosen = draft::choose(self.spec_type, self.model_draft.as_deref(), setup.target)?;
        let Some((row, path)) = chosen.filter(|_| self.spec_draft_n_max != Some(0)) else {
            return Ok(None);
        };
        self.check_kind(row)?;
        let mut growth = self.tree.unwrap_or(row.growth);
        if let Some(depth) = self.spec_draft_n_max {
            growth = growth.with_depth(depth);
        }
        // A shape that is asked for is had.
        let p_min = if self.tree.is_some() { 0.0 } else { row.p_min };
        let p_min = self.spec_draft_p_min.unwrap_or(p_min);
        let placement = Placement {
            device: self.device(),
            vram_limit: self.vram_limit.map(|mib| mib.saturating_mul(1 << 20)),
            growth: Some(growth),
            drawn: self.spec_sampling == SpecSampling::Rejection,
        };
        let drafter = (row.open)(&Setup { path: path.as_deref(), placement, ..setup })?;
        let place = drafter.place().to_owned();
        let from = path.map(|path| format!(" from {}", path.display())).unwrap_or_default();
        let about = format!("{}{from} {place}, tree {growth}, p-min {p_min}", row.name);
        Ok(Some(Opened { drafter, growth, p_min, about }))
    }
}
