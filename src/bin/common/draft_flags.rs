//! Flags of drafters.

use crate::words;
use clap::Args;
use dovetail::draft::{DraftDevice, SpecType};
use dovetail::planner::Policy;
use dovetail::setting::Setting;
use dovetail::speculate::{SpecOptions, SpecSampling};
use dovetail::tree::MAX_NODES;
use dovetail::{Error, Result};
use std::path::PathBuf;

/// Most draft tokens on a path: a tree has one node more.
const MAX_DEPTH: usize = MAX_NODES - 1;

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Speculation")]
pub struct DraftFlags {
    /// The kind of drafter, which changes the speed and never the text: none; ngram, the continuation of the last
    /// tokens earlier in the text; lm, a small model with the same vocabulary; dgf, a drafter trained for the model;
    /// auto, the file of -md, or a dgf that is found for the model
    #[arg(long, value_name = "TYPE", default_value = "auto", env = "DOVETAIL_SPEC_TYPE")]
    pub spec_type: SpecType,
    /// The drafter's file [-md]
    #[arg(long, value_name = "FILE", env = "DOVETAIL_MODEL_DRAFT")]
    pub model_draft: Option<PathBuf>,
    /// How large draft trees are: cost, as large as pays on this machine, which is measured at the first use of a
    /// model; chain:K or beam:DEPTH,WIDTH,NODES, a fixed size, as eagle2:60 and eagle2:16 are; cast or cast:C1,C2,C3,
    /// by thresholds [default: cost; with rejection the drafter's own size]
    #[arg(long, value_name = "POLICY", env = "DOVETAIL_TREE")]
    pub tree: Option<Policy>,
    /// Most draft tokens on a path, in place of the tree's depth; 0 or less for none
    #[arg(long, value_name = "N", visible_aliases = ["draft-max", "draft"])]
    #[arg(value_parser = depth, allow_negative_numbers = true)]
    #[arg(env = "DOVETAIL_SPEC_DRAFT_N_MAX")]
    pub spec_draft_n_max: Option<usize>,
    /// Leave out draft tokens whose path from the last token, not the token alone, has a lower probability than this,
    /// as the drafter sees it; with rejection they are not continued; 0 or less: none [default:
    /// the drafter's own]
    #[arg(long, value_name = "P", visible_alias = "draft-p-min", value_parser = p_min)]
    #[arg(allow_negative_numbers = true)]
    #[arg(env = "DOVETAIL_SPEC_DRAFT_P_MIN")]
    pub spec_draft_p_min: Option<f32>,
    /// Which draft tokens are accepted: matching, those that plain decoding samples; rejection, more of them at high
    /// temperatures, with another text from the same distribution
    #[arg(long, value_name = "RULE", default_value = "matching")]
    #[arg(env = "DOVETAIL_SPEC_SAMPLING")]
    pub spec_sampling: SpecSampling,
    /// Device of a trained drafter: auto, a GPU if one can be used; cpu; gpu; or gpu0, gpu1, … as dovetail-run
    /// --list-devices numbers them
    #[arg(long, value_name = "DEVICE", default_value = "auto", value_parser = device)]
    #[arg(env = "DOVETAIL_DRAFT_DEVICE", help_heading = "Devices")]
    pub draft_device: DraftDevice,
    /// MiB of GPU memory that the drafter may use [default: all]
    #[arg(long, value_name = "MIB", env = "DOVETAIL_VRAM_LIMIT", help_heading = "Devices")]
    #[arg(value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub vram_limit: Option<usize>,
    /// Accepted for compatibility with llama.cpp: 0 is --draft-device cpu; any other number, auto or all changes
    /// nothing, since a drafter runs on one device as a whole [-ngld]
    #[arg(long, visible_alias = "n-gpu-layers-draft", value_name = "N", value_parser = layers)]
    #[arg(allow_negative_numbers = true, help_heading = "Devices")]
    pub gpu_layers_draft: Option<i64>,
}

/// Layers on a GPU in llama.cpp's notation: a number, or a word for as many as fit.
fn layers(text: &str) -> std::result::Result<i64, String> {
    match text {
        "auto" | "all" => Ok(-1),
        _ => text.parse().map_err(|_| "give a number, auto or all".into()),
    }
}

fn depth(text: &str) -> std::result::Result<usize, String> {
    let n = text.parse::<i64>().ok().filter(|n| *n <= MAX_DEPTH as i64);
    n.map(|n| n.max(0) as usize).ok_or(format!("give a number of tokens in 0..={MAX_DEPTH}"))
}

fn p_min(text: &str) -> std::result::Result<f32, String> {
    match text.parse::<f32>() {
        Ok(x) if x <= 0.0 && x.is_finite() => Ok(0.0),
        _ => words::number(Setting::DraftPMin, text),
    }
}

fn device(text: &str) -> std::result::Result<DraftDevice, String> {
    let known = "there are auto, cpu, gpu, and gpu0, gpu1, … as --list-devices counts";
    text.parse().map_err(|_| known.into())
}

impl DraftFlags {
    /// The options that the flags ask for.
    pub fn options(&self) -> SpecOptions {
        let cpu = self.gpu_layers_draft == Some(0);
        SpecOptions {
            kind: self.spec_type,
            file: self.model_draft.clone(),
            tree: self.tree,
            depth: self.spec_draft_n_max,
            p_min: self.spec_draft_p_min,
            sampling: self.spec_sampling,
            device: if cpu { DraftDevice::Cpu } else { self.draft_device },
            vram_limit: self.vram_limit.map(|mib| mib.saturating_mul(1 << 20)),
            // All drafters are opened before one drafts.
            alone: true,
        }
    }

    /// Checks what clap cannot, and whether the GPU that was asked for exists.
    ///
    /// # Errors
    /// If flags contradict each other, or the GPU does not exist.
    pub fn check(&self) -> Result<()> {
        let (named, asked) = (self.draft_device, self.options());
        if named.is_gpu() && !asked.device.is_gpu() {
            return Err(Error::Invalid(format!(
                "-ngld 0 and --draft-device {named} (DOVETAIL_DRAFT_DEVICE) contradict each other; leave one out"
            )));
        }
        asked.check()
    }
}
