//! Where a trained drafter runs: on a GPU if one can be used, else on the CPU; and from the GPU to the CPU in
//! the middle of an answer if the GPU fails.

use super::dgf::Dgf;
use super::gpu::{self, Cuda, GpuDrafter};
use super::{Drafter, Guesser, Setup};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::tree::{Growth, Tree};
use dovetail_kernels::cpu::Team;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

/// What `--draft-device` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DraftDevice {
    /// A GPU if one can be used.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A GPU, the first that can be used or the one with this number; if that cannot be, it is an error.
    Gpu(Option<usize>),
}

impl FromStr for DraftDevice {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<DraftDevice, String> {
        match text {
            "auto" => Ok(DraftDevice::Auto),
            "cpu" => Ok(DraftDevice::Cpu),
            "gpu" => Ok(DraftDevice::Gpu(None)),
            _ => {
                let number = text.strip_prefix("gpu").and_then(|number| number.parse().ok());
                let known = "there are auto, cpu, gpu, and gpu0, gpu1, … as --list-devices counts";
                number.map(|number| DraftDevice::Gpu(Some(number))).ok_or_else(|| known.into())
            }
        }
    }
}

/// Where a drafter is to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Placement {
    /// On what.
    pub device: DraftDevice,
    /// Bytes of a GPU's memory that it may take, if not all.
    pub vram_limit: Option<usize>,
    /// The largest tree that it will be asked for, if not its own.
    pub growth: Option<Growth>,
    /// Whether guesses are drawn, which only the CPU does.
    pub drawn: bool,
}

impl Placement {
    /// On the CPU.
    pub const CPU: Placement =
        Placement { device: DraftDevice::Cpu, vram_limit: None, growth: None, drawn: false };
}

/// A trained drafter where it is to run.
pub(super) fn open(setup: &Setup) -> Result<Box<dyn Drafter>> {
    let asked = matches!(setup.placement.device, DraftDevice::Gpu(_));
    let on_gpu = match setup.placement.device {
        DraftDevice::Cpu => Err(None),
        _ => on_gpu(setup).map_err(Some),
    };
    match on_gpu {
        Ok(placed) => Ok(Box::new(placed)),
        Err(Some(error)) if asked => Err(error),
        Err(reason) => {
            let about = match reason {
                Some(reason) => format!("on the CPU ({reason})"),
                None => "on the CPU".to_owned(),
            };
            let back = Back::of(setup)?;
            Ok(Box::new(Placed { place: Place::Cpu(Dgf::open(setup)?), back, about, notice: None }))
        }
    }
}

fn on_gpu(setup: &Setup) -> Result<Placed> {
    let Placement { device, vram_limit, drawn, .. } = setup.placement;
    if drawn {
        return Err(Error::Invalid("guesses are drawn on the CPU".into()));
    }
    let found = gpu::list().map_err(Error::Unsupported)?;
    let usable = |wanted: &&gpu::Found| match device {
        DraftDevice::Gpu(Some(number)) => wanted.ordinal == number,
        _ => wanted.unusable.is_none(),
    };
    let Some(chosen) = found.iter().find(usable) else {
        let what = match device {
            DraftDevice::Gpu(Some(number)) => format!("there is no GPU {number}"),
            _ => found.iter().find_map(|gpu| gpu.unusable.clone()).unwrap_or_default(),
        };
        return Err(Error::Unsupported(format!("{what}; --list-devices shows what there is")));
    };
    if let Some(why) = &chosen.unusable {
        return Err(Error::Unsupported(format!("GPU {} cannot be used: {why}", chosen.ordinal)));
    }
    let cuda = Cuda::open(chosen.ordinal, vram_limit.unwrap_or(usize::MAX))?;
    let drafter = GpuDrafter::open(setup, Box::new(cuda))?;
    let mib = drafter.device_bytes() as f64 / (1 << 20) as f64;
    let about = format!("on {} ({mib:.0} MiB)", chosen.name);
    Ok(Placed::on(drafter, Back::of(setup)?, about))
}

/// What a drafter is opened with on the CPU.
struct Back {
    target: Arc<Model>,
    n_ctx: usize,
    threads: usize,
    path: Option<PathBuf>,
}

impl Back {
    fn of(setup: &Setup) -> Result<Back> {
        let Setup { target, n_ctx, threads, path, .. } = *setup;
        Ok(Back { target: target.clone(), n_ctx, threads, path: path.map(Into::into) })
    }

    fn open(&self) -> Result<Dgf> {
        let Back { target, n_ctx, threads, path } = self;
        let (path, placement) = (path.as_deref(), Placement::CPU);
        Dgf::open(&Setup { target, n_ctx: *n_ctx, threads: *threads, path, placement })
    }
}

enum Place {
    Gpu(GpuDrafter),
    Cpu(Dgf),
}

/// A drafter that knows its way back to the CPU.
struct Placed {
    place: Place,
    back: Back,
    about: String,
    notice: Option<String>,
}

impl Placed {
    fn on(drafter: GpuDrafter, back: Back, about: String) -> Placed {
        Placed { place: Place::Gpu(drafter), back, about, notice: None }
    }

    /// Goes on on the CPU; it joins the sequence where it is.
    fn fall_back(&mut self, error: &Error) -> Result<()> {
        self.place = Place::Cpu(self.back.open()?);
        self.notice = Some(format!("going on with the drafter on the CPU: {error}"));
        self.about = "on the CPU".to_owned();
        Ok(())
    }
}

impl Drafter for Placed {
    fn taps(&self) -> &[usize] {
        match &self.place {
            Place::Gpu(drafter) => drafter.taps(),
            Place::Cpu(drafter) => drafter.taps(),
        }
    }

    fn commit(
        &mut self,
        first: usize,
        tokens: &[u32],
        features: &mut dyn Iterator<Item = &[f32]>,
        team: &mut Team,
    ) -> Result<()> {
        match &mut self.place {
            Place::Gpu(drafter) => match drafter.commit(first, tokens, features, team) {
                Err(error) => self.fall_back(&error),
                done => done,
            },
            Place::Cpu(drafter) => drafter.commit(first, tokens, features, team),
        }
    }

    fn expand(
        &mut self,
        tokens: &[u32],
        guesser: &mut Guesser,
        tree: &mut Tree,
        team: &mut Team,
    ) -> Result<()> {
        match &mut self.place {
            Place::Gpu(drafter) => match drafter.expand(tokens, guesser, tree, team) {
                Err(error) => {
                    tree.reset(tree.tokens()[0]);
                    self.fall_back(&error)
                }
                done => done,
            },
            Place::Cpu(drafter) => drafter.expand(tokens, guesser, tree, team),
        }
    }

    fn place(&self) -> &str {
        &self.about
    }

    fn take_notice(&mut self) -> Option<String> {
        self.notice.take()
    }
}
