//! Where a trained drafter runs: on a GPU if one can be used, else on the CPU; and from the GPU to the CPU in
//! the middle of an answer if the GPU fails.

use super::cpu::CpuDrafter;
use super::gpu::GpuDrafter;
use crate::draft::{CandidateSelector, Drafter, DrafterContext};
use crate::error::{Error, Result};
use crate::gpu::{self, Cuda, Device, Found};
use crate::model::Model;
use crate::tree::{Tree, TreeShape};
use dovetail_kernels::cpu::ThreadPool;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

/// Where a drafter is that is on no GPU.
const ON_THE_CPU: &str = "on the CPU";

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
                let number = text.strip_prefix("gpu").filter(|rest| !rest.starts_with('+'));
                let number = number.and_then(|number| number.parse().ok());
                let known = "there are auto, cpu, gpu, and gpu0, gpu1, … as --list-devices counts";
                number.map(|number| DraftDevice::Gpu(Some(number))).ok_or_else(|| known.into())
            }
        }
    }
}

impl fmt::Display for DraftDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DraftDevice::Auto => f.write_str("auto"),
            DraftDevice::Cpu => f.write_str("cpu"),
            DraftDevice::Gpu(None) => f.write_str("gpu"),
            DraftDevice::Gpu(Some(number)) => write!(f, "gpu{number}"),
        }
    }
}

impl DraftDevice {
    /// Whether a GPU was asked for: then nothing else will do.
    pub fn is_gpu(self) -> bool {
        matches!(self, DraftDevice::Gpu(_))
    }

    /// Looks for the GPU, if one was asked for: that takes less time than loading a model in vain.
    ///
    /// # Errors
    /// When it is not there or cannot be used.
    pub fn check(self) -> Result<()> {
        if self.is_gpu() {
            choose(self, gpu::list()).map_err(|error| self.refuse(error))?;
        }
        Ok(())
    }

    /// The error of who asked for this.
    fn refuse(self, error: Error) -> Error {
        match error {
            Error::Device(what) => Error::Device(format!("no drafting on {self}: {what}")),
            Error::Unsupported(what) => {
                Error::Unsupported(format!("no drafting on {self}: {what}"))
            }
            error => error,
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
    pub growth: Option<TreeShape>,
    /// Whether guesses are drawn, which only the CPU does.
    pub drawn: bool,
    /// Whether no other drafter is opened on the same GPU while this one lives: rounds may then wait there for the next
    /// verdict, and whatever concerns the whole GPU, as opening another drafter does, waits for them.
    pub alone: bool,
}

impl Placement {
    /// On the CPU.
    pub const CPU: Placement = Placement {
        device: DraftDevice::Cpu,
        vram_limit: None,
        growth: None,
        drawn: false,
        alone: false,
    };
}

/// A trained drafter where it is to run.
pub(super) fn open(setup: &DrafterContext) -> Result<Box<dyn Drafter>> {
    Ok(Box::new(FallbackDrafter::open(setup, cuda)?))
}

/// The GPU of those found that a drafter goes to.
fn choose(device: DraftDevice, found: std::result::Result<Vec<Found>, String>) -> Result<Found> {
    let wrong = |what: String| Err(Error::Unsupported(what));
    let mut found = found.map_err(Error::Unsupported)?;
    if let DraftDevice::Gpu(Some(number)) = device {
        found.retain(|gpu| gpu.ordinal == number);
    }
    match found.iter().position(|gpu| gpu.unusable.is_none()) {
        Some(usable) => Ok(found.swap_remove(usable)),
        None => {
            match found.into_iter().find_map(|gpu| Some((gpu.ordinal, gpu.name, gpu.unusable?))) {
                Some((number, name, why)) => wrong(format!("gpu{number} is {name}: {why}")),
                None => wrong("there is no such GPU; --list-devices shows what there is".into()),
            }
        }
    }
}

/// A GPU of NVIDIA's, and what people call it.
fn cuda(placement: &Placement) -> Result<(Box<dyn Device>, String)> {
    let Found { ordinal, name, .. } = choose(placement.device, gpu::list())?;
    let cuda = Cuda::open(ordinal, placement.vram_limit.unwrap_or(usize::MAX))?;
    Ok((Box::new(cuda), format!("gpu{ordinal}, {name}")))
}

/// What a drafter is opened with on the CPU.
#[derive(Clone)]
struct Back {
    target: Arc<Model>,
    n_ctx: usize,
    threads: usize,
    path: Option<PathBuf>,
}

impl Back {
    fn of(setup: &DrafterContext) -> Back {
        let DrafterContext { target, n_ctx, threads, path, .. } = *setup;
        Back { target: target.clone(), n_ctx, threads, path: path.map(Into::into) }
    }

    fn open(&self) -> Result<CpuDrafter> {
        let Back { target, n_ctx, threads, path } = self;
        let (path, placement) = (path.as_deref(), Placement::CPU);
        CpuDrafter::open(&DrafterContext {
            target,
            n_ctx: *n_ctx,
            threads: *threads,
            path,
            placement,
        })
    }
}

#[allow(clippy::large_enum_variant, reason = "a session has one")]
enum Place {
    Gpu(GpuDrafter),
    Cpu(CpuDrafter),
}

/// A drafter that knows its way back to the CPU.
pub(super) struct FallbackDrafter {
    place: Place,
    back: Back,
    about: String,
    why: Option<String>,
    notice: Option<String>,
}

impl FallbackDrafter {
    /// On the device that `find` gives, with its name; else on the CPU, unless a GPU was asked for.
    pub fn open(
        setup: &DrafterContext,
        find: impl FnOnce(&Placement) -> Result<(Box<dyn Device>, String)>,
    ) -> Result<FallbackDrafter> {
        let (placement, back) = (setup.placement, Back::of(setup));
        let refused = match placement.device {
            DraftDevice::Cpu => None,
            _ if placement.drawn => {
                Some(Error::Unsupported("guesses that are drawn are drawn on the CPU".into()))
            }
            _ => match on_device(setup, find) {
                Ok((drafter, about)) => {
                    let place = Place::Gpu(drafter);
                    return Ok(FallbackDrafter { place, back, about, why: None, notice: None });
                }
                Err(error) if placement.device.is_gpu() => {
                    return Err(placement.device.refuse(error));
                }
                Err(error) => Some(error),
            },
        };
        let place = Place::Cpu(CpuDrafter::open(setup)?);
        let mut placed =
            FallbackDrafter { place, back, about: ON_THE_CPU.into(), why: None, notice: None };
        match refused {
            // There is one, and it could have been used.
            Some(Error::Device(why)) => {
                placed.notice = Some(format!("the drafter runs on the CPU: {why}"));
            }
            refused => placed.why = refused.map(|error| error.to_string()),
        }
        Ok(placed)
    }

    /// Goes on on the CPU, which is told what the GPU has not taken in yet. It joins the sequence there.
    fn fall_back(&mut self, error: &Error, pool: &mut ThreadPool) -> Result<()> {
        let opened = self.back.open().and_then(|mut drafter| {
            if let Place::Gpu(gpu) = &self.place {
                let (first, tokens, mut features) = gpu.waiting();
                drafter.commit(first, tokens, &mut features, pool)?;
            }
            Ok(drafter)
        });
        let drafter = opened.map_err(|cpu| {
            Error::Device(format!("{error}; and it cannot go on on the CPU: {cpu}"))
        })?;
        self.go_on_with(drafter, error);
        Ok(())
    }

    fn go_on_with(&mut self, drafter: CpuDrafter, error: &Error) {
        self.place = Place::Cpu(drafter);
        self.notice = Some(format!("going on with the drafter on the CPU: {error}"));
        self.about = ON_THE_CPU.into();
    }
}

impl Drafter for FallbackDrafter {
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
        pool: &mut ThreadPool,
    ) -> Result<()> {
        match &mut self.place {
            Place::Gpu(drafter) => match drafter.commit(first, tokens, features, pool) {
                Err(error) => self.fall_back(&error, pool),
                done => done,
            },
            Place::Cpu(drafter) => drafter.commit(first, tokens, features, pool),
        }
    }

    fn skip_to_last(&mut self, n: usize) {
        // A GPU catches up while the CPU verifies.
        if let Place::Cpu(drafter) = &mut self.place {
            drafter.skip_to_last(n);
        }
    }

    fn begin(
        &mut self,
        tokens: &[u32],
        guesser: &CandidateSelector,
        pool: &mut ThreadPool,
    ) -> Result<()> {
        match &mut self.place {
            Place::Gpu(drafter) => match drafter.begin(tokens, guesser, pool) {
                Err(error) => self.fall_back(&error, pool),
                done => done,
            },
            Place::Cpu(_) => Ok(()),
        }
    }

    fn expand(
        &mut self,
        tokens: &[u32],
        guesser: &mut CandidateSelector,
        tree: &mut Tree,
        pool: &mut ThreadPool,
    ) -> Result<()> {
        match &mut self.place {
            Place::Gpu(drafter) => match drafter.expand(tokens, guesser, tree, pool) {
                Err(error) => {
                    tree.reset(tree.tokens()[0]);
                    self.fall_back(&error, pool)?;
                    self.expand(tokens, guesser, tree, pool)
                }
                done => done,
            },
            Place::Cpu(drafter) => drafter.expand(tokens, guesser, tree, pool),
        }
    }

    fn another(&self) -> Option<Result<Box<dyn Drafter>>> {
        let Place::Cpu(drafter) = &self.place else { return None };
        Some(drafter.another().map(|drafter| {
            let (back, about, why) = (self.back.clone(), self.about.clone(), self.why.clone());
            let place = Place::Cpu(drafter);
            Box::new(FallbackDrafter { place, back, about, why, notice: None }) as Box<dyn Drafter>
        }))
    }

    fn as_dgf(&mut self) -> Option<&mut CpuDrafter> {
        if let Place::Cpu(drafter) = &mut self.place { Some(drafter) } else { None }
    }

    fn save(&mut self, out: &mut Vec<u8>) -> Result<()> {
        match &mut self.place {
            Place::Gpu(drafter) => drafter.save(out),
            Place::Cpu(drafter) => drafter.save(out),
        }
    }

    fn restore(&mut self, tokens: &[u32], state: &[u8]) -> Result<bool> {
        match &mut self.place {
            Place::Cpu(drafter) => drafter.restore(tokens, state),
            Place::Gpu(drafter) => match drafter.restore(tokens, state) {
                Err(error) => {
                    let drafter = self.back.open()?;
                    self.go_on_with(drafter, &error);
                    self.restore(tokens, state)
                }
                done => done,
            },
        }
    }

    fn place(&self) -> &str {
        &self.about
    }

    fn why_there(&self) -> Option<&str> {
        self.why.as_deref()
    }

    fn take_notice(&mut self) -> Option<String> {
        self.notice.take()
    }
}

fn on_device(
    setup: &DrafterContext,
    find: impl FnOnce(&Placement) -> Result<(Box<dyn Device>, String)>,
) -> Result<(GpuDrafter, String)> {
    let (device, name) = find(&setup.placement)?;
    let drafter = GpuDrafter::open(setup, device)?;
    let mib = drafter.device_bytes().div_ceil(1 << 20);
    Ok((drafter, format!("on {name} ({mib} MiB)")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_as_they_are_written() {
        for text in ["auto", "cpu", "gpu", "gpu0", "gpu12"] {
            assert_eq!(text.parse::<DraftDevice>().unwrap().to_string(), text);
        }
        for text in ["", "GPU", "gpu-1", "gpu+1", "gpu1x", "cuda0"] {
            assert!(text.parse::<DraftDevice>().unwrap_err().contains("--list-devices"), "{text}");
        }
    }

    #[test]
    fn the_first_gpu_that_can_be_used_is_chosen() {
        let gpu = |ordinal: usize, unusable: Option<&str>| Found {
            ordinal,
            name: "GTX".into(),
            capability: (6, 1),
            memory_bytes: 1 << 33,
            unusable: unusable.map(Into::into),
        };
        let found = || Ok(vec![gpu(0, Some("too old")), gpu(1, None), gpu(2, None)]);
        for (device, chosen) in [("auto", 1), ("gpu", 1), ("gpu1", 1), ("gpu2", 2)] {
            assert_eq!(choose(device.parse().unwrap(), found()).unwrap().ordinal, chosen);
        }
        let old = || Ok(vec![gpu(0, Some("too old"))]);
        for (device, found, part) in [
            ("gpu0", found(), "gpu0 is GTX: too old"),
            ("gpu7", found(), "no such GPU; --list-devices"),
            ("gpu", old(), "gpu0 is GTX: too old"),
            ("auto", old(), "gpu0 is GTX: too old"),
            ("gpu", Err("no driver".into()), "no driver"),
        ] {
            let device: DraftDevice = device.parse().unwrap();
            let line = device.refuse(choose(device, found).unwrap_err()).to_string();
            assert!(line.starts_with(&format!("no drafting on {device}: ")), "{line}");
            assert!(line.contains(part), "{line}");
        }
    }
}
