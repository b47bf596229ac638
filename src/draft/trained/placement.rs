//! Where a trained drafter runs: on a GPU if one can be used, otherwise on the CPU. If the GPU fails in the middle of
//! an answer, the drafter moves to the CPU.

use super::cpu::{self, CpuDrafter, CpuState};
use super::gpu::GpuDrafter;
use crate::draft::{DraftJob, DraftState, Drafter, DrafterContext, RoundContext};
use crate::error::{Error, Result};
use crate::gpu::{self, Device, GpuInfo};
use crate::infer::MAX_SEQUENCES;
use crate::model::Model;
use crate::tree::TreeShape;
use dovetail_kernels::cpu::ThreadPool;
use smallvec::SmallVec;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use twox_hash::XxHash3_64;

/// The place of a drafter that runs on no GPU.
const ON_THE_CPU: &str = "on the CPU";

/// Value of `--draft-device`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DraftDevice {
    /// A GPU if one can be used.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A GPU: the first that can be used, or the one with this number. It is an error if it cannot be used.
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
                let known = "there are auto, cpu, gpu, and gpu0, gpu1, … as the driver counts";
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
    /// Whether a GPU was asked for explicitly.
    pub fn is_gpu(self) -> bool {
        matches!(self, DraftDevice::Gpu(_))
    }

    /// Checks that a requested GPU is there, before a model is loaded in vain.
    ///
    /// # Errors
    /// If it is not there or cannot be used.
    pub fn check(self) -> Result<()> {
        if self.is_gpu() {
            choose(self, gpu::list()).map_err(|error| self.refuse(error))?;
        }
        Ok(())
    }

    /// The error for a user who asked for this device.
    fn refuse(self, error: Error) -> Error {
        match error {
            Error::Device(_)
            | Error::DeviceMemory { .. }
            | Error::NoDevice
            | Error::Unsupported(_) => {
                Error::Drafting { device: self.to_string(), error: error.into() }
            }
            error => error,
        }
    }
}

/// Where a drafter runs, and its limits there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Placement {
    /// The device.
    pub device: DraftDevice,
    /// Largest number of bytes of GPU memory that it may take; `None` for no limit.
    pub vram_limit: Option<usize>,
    /// The largest tree that it must grow; `None` for its default shape.
    pub growth: Option<TreeShape>,
    /// Whether candidates are sampled, which only the CPU does.
    pub drawn: bool,
    /// Whether no other drafter is opened on the same GPU while this one lives. A lone drafter's rounds may wait on the
    /// GPU for the next accepted path; calls that concern the whole GPU, such as opening another drafter, would wait
    /// for them.
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

/// Opens a trained drafter on its device.
pub(super) fn open(setup: &DrafterContext) -> Result<Box<dyn Drafter>> {
    Ok(Box::new(TrainedDrafter::open(setup, cuda)?))
}

/// The GPU among those found that the drafter uses.
fn choose(
    device: DraftDevice,
    found: std::result::Result<Vec<GpuInfo>, String>,
) -> Result<GpuInfo> {
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
                None => Err(Error::NoDevice),
            }
        }
    }
}

/// An NVIDIA GPU and its name.
fn cuda(placement: &Placement) -> Result<(Box<dyn Device>, String)> {
    let GpuInfo { ordinal, name, .. } = choose(placement.device, gpu::list())?;
    let device = gpu::open(ordinal, placement.vram_limit.unwrap_or(usize::MAX))?;
    Ok((device, format!("gpu{ordinal}, {name}")))
}

/// Everything needed to open the drafter again on the CPU.
struct ReopenContext {
    target: Arc<Model>,
    n_ctx: usize,
    threads: usize,
    path: Option<PathBuf>,
    placement: Placement,
}

impl ReopenContext {
    fn of(setup: &DrafterContext) -> ReopenContext {
        let DrafterContext { target, n_ctx, threads, path, placement } = *setup;
        ReopenContext {
            target: target.clone(),
            n_ctx,
            threads,
            path: path.map(Into::into),
            placement,
        }
    }

    fn context(&self) -> DrafterContext<'_> {
        let ReopenContext { target, n_ctx, threads, path, placement } = self;
        let path = path.as_deref();
        DrafterContext { target, n_ctx: *n_ctx, threads: *threads, path, placement: *placement }
    }
}

/// A drafter's state for a sequence, on the device where it runs.
#[allow(clippy::large_enum_variant, reason = "a sequence has one")]
enum SequenceState {
    Gpu(GpuDrafter),
    Cpu(CpuState),
}

impl SequenceState {
    fn cpu(&mut self) -> Option<&mut CpuState> {
        if let SequenceState::Cpu(state) = self { Some(state) } else { None }
    }

    fn gpu(&mut self) -> Option<&mut GpuDrafter> {
        if let SequenceState::Gpu(drafter) = self { Some(drafter) } else { None }
    }
}

/// Opens a device. Returns it and its name.
type OpenDevice = dyn Fn(&Placement) -> Result<(Box<dyn Device>, String)> + Send;

/// A trained drafter that falls back to the CPU for sequences for which a GPU fails.
pub(in crate::draft) struct TrainedDrafter {
    taps: Vec<usize>,
    /// Common to all drafters opened from the same file for the same target.
    family: u64,
    reopen: ReopenContext,
    open_device: Box<OpenDevice>,
    /// Whether new sequences are drafted for on a GPU.
    on_gpu: bool,
    /// The state of the first sequence, which is opened in advance to see that the GPU works.
    first: Option<GpuDrafter>,
    /// Opened when it is needed.
    cpu: Option<CpuDrafter>,
    place_name: String,
    why: Option<String>,
    notice: Option<String>,
}

impl TrainedDrafter {
    /// Opens it on the device from `open_device`; otherwise on the CPU, unless a GPU was asked for.
    pub fn open(
        setup: &DrafterContext,
        open_device: impl Fn(&Placement) -> Result<(Box<dyn Device>, String)> + Send + 'static,
    ) -> Result<TrainedDrafter> {
        let placement = setup.placement;
        let mut drafter = TrainedDrafter {
            taps: Vec::new(),
            family: XxHash3_64::oneshot(cpu::key(setup)?.as_bytes()),
            reopen: ReopenContext::of(setup),
            open_device: Box::new(open_device),
            on_gpu: false,
            first: None,
            cpu: None,
            place_name: ON_THE_CPU.into(),
            why: None,
            notice: None,
        };
        let refused = match placement.device {
            DraftDevice::Cpu => None,
            _ if placement.drawn => {
                Some(Error::Unsupported("draft tokens are sampled on the CPU only".into()))
            }
            _ => match drafter.open_on_device() {
                Ok((first, place_name)) => {
                    drafter.taps = first.taps().to_vec();
                    (drafter.first, drafter.on_gpu, drafter.place_name) =
                        (Some(first), true, place_name);
                    return Ok(drafter);
                }
                Err(error) if placement.device.is_gpu() => {
                    return Err(placement.device.refuse(error));
                }
                Err(error) => Some(error),
            },
        };
        drafter.taps = drafter.on_cpu()?.taps().to_vec();
        match refused {
            // There is a GPU, and it should have been usable.
            Some(why @ (Error::Device(_) | Error::DeviceMemory { .. })) => {
                drafter.notice = Some(format!("the drafter runs on the CPU: {why}"));
            }
            refused => drafter.why = refused.map(|error| error.to_string()),
        }
        Ok(drafter)
    }

    fn open_on_device(&self) -> Result<(GpuDrafter, String)> {
        let (device, name) = (self.open_device)(&self.reopen.placement)?;
        let drafter = GpuDrafter::open(&self.reopen.context(), device)?;
        let mib = drafter.device_bytes().div_ceil(1 << 20);
        Ok((drafter, format!("on {name} ({mib} MiB)")))
    }

    /// The drafter on the CPU, which is opened if necessary.
    fn on_cpu(&mut self) -> Result<&mut CpuDrafter> {
        if self.cpu.is_none() {
            self.cpu = Some(CpuDrafter::open(&self.reopen.context())?);
        }
        Ok(self.cpu.as_mut().expect("it was opened"))
    }

    /// Moves a sequence to the CPU, with the positions that the GPU has not run yet. The drafter's sequence starts
    /// there.
    fn fall_back(
        &mut self,
        sequence: &mut SequenceState,
        error: &Error,
        pool: &mut ThreadPool,
    ) -> Result<()> {
        let opened = self.on_cpu().and_then(|cpu| {
            let mut state = cpu.state()?;
            if let Some(gpu) = sequence.gpu() {
                let (first, tokens, mut features) = gpu.waiting();
                cpu.commit(&mut state, first, tokens, &mut features, pool);
            }
            Ok(state)
        });
        let state = opened.map_err(|cpu| {
            Error::Device(format!("{error}; and it cannot go on on the CPU: {cpu}"))
        })?;
        self.go_on_with(sequence, state, error);
        Ok(())
    }

    fn go_on_with(&mut self, sequence: &mut SequenceState, state: CpuState, error: &Error) {
        *sequence = SequenceState::Cpu(state);
        (self.on_gpu, self.first) = (false, None);
        self.notice = Some(format!("going on with the drafter on the CPU: {error}"));
        self.place_name = ON_THE_CPU.into();
    }

    /// Grows the trees whose states are on the CPU.
    fn expand_on_cpu(&mut self, jobs: &mut [DraftJob], round: &mut RoundContext) {
        let on_cpu = jobs.iter_mut().filter(|job| job.tree.is_growing());
        let on_cpu =
            on_cpu.filter_map(|job| job.with_state(|state| state.get::<SequenceState>().cpu()));
        let mut on_cpu: SmallVec<[DraftJob<CpuState>; MAX_SEQUENCES]> = on_cpu.collect();
        if on_cpu.is_empty() {
            return;
        }
        match self.on_cpu() {
            Ok(cpu) => cpu.expand(&mut on_cpu, round),
            Err(error) => {
                let line = error.to_string();
                on_cpu.iter_mut().for_each(|job| job.fail(Error::Device(line.clone())));
            }
        }
    }
}

impl Drafter for TrainedDrafter {
    fn taps(&self) -> &[usize] {
        &self.taps
    }

    fn family(&self) -> Option<u64> {
        Some(self.family)
    }

    fn state(&mut self) -> Result<DraftState> {
        if self.on_gpu {
            let drafter = match self.first.take() {
                Some(first) => Ok(first),
                None => self.open_on_device().map(|(drafter, _)| drafter),
            };
            match drafter {
                Ok(drafter) => return Ok(DraftState::new(SequenceState::Gpu(drafter))),
                Err(error) if self.reopen.placement.device.is_gpu() => {
                    return Err(self.reopen.placement.device.refuse(error));
                }
                // If the GPU has no memory for all sequences, the last ones are on the CPU.
                Err(error) => {
                    self.notice = Some(format!("a drafter runs on the CPU: {error}"));
                }
            }
        }
        let state = self.on_cpu()?.state()?;
        Ok(DraftState::new(SequenceState::Cpu(state)))
    }

    fn commit(
        &mut self,
        state: &mut DraftState,
        first: usize,
        tokens: &[u32],
        features: &mut dyn Iterator<Item = &[f32]>,
        pool: &mut ThreadPool,
    ) -> Result<()> {
        let sequence = state.get::<SequenceState>();
        match sequence {
            SequenceState::Gpu(drafter) => match drafter.commit(first, tokens, features) {
                Err(error) => self.fall_back(sequence, &error, pool),
                done => done,
            },
            SequenceState::Cpu(state) => {
                self.on_cpu()?.commit(state, first, tokens, features, pool);
                Ok(())
            }
        }
    }

    fn skip_to_last(&mut self, state: &mut DraftState, n: usize) {
        // A GPU catches up while the CPU verifies.
        if let Some(state) = state.get::<SequenceState>().cpu() {
            state.skip_to_last(n);
        }
    }

    /// All devices work at the same time, and the CPU beside them.
    fn expand(&mut self, jobs: &mut [DraftJob], round: &mut RoundContext) {
        for job in &mut *jobs {
            let sequence = job.state.get::<SequenceState>();
            let begun = sequence.gpu().map_or(Ok(()), |gpu| gpu.begin(job.tokens, job.tree));
            if let Err(error) = begun.or_else(|error| self.fall_back(sequence, &error, round.pool))
            {
                job.fail(error);
            }
        }
        self.expand_on_cpu(jobs, round);
        for job in jobs {
            let Some(gpu) = job.state.get::<SequenceState>().gpu() else { continue };
            if let Err(error) = gpu.finish(job.tree) {
                job.tree.restart();
                match self.fall_back(job.state.get(), &error, round.pool) {
                    Ok(()) => self.expand_on_cpu(std::slice::from_mut(job), round),
                    Err(error) => job.fail(error),
                }
            }
        }
    }

    fn save(&mut self, state: &mut DraftState, out: &mut Vec<u8>) -> Result<()> {
        match state.get() {
            SequenceState::Gpu(drafter) => drafter.save(out),
            SequenceState::Cpu(state) => {
                self.on_cpu()?.save(state, out);
                Ok(())
            }
        }
    }

    fn restore(&mut self, state: &mut DraftState, tokens: &[u32], saved: &[u8]) -> Result<bool> {
        let sequence = state.get::<SequenceState>();
        if let Some(gpu) = sequence.gpu() {
            match gpu.restore(tokens, saved) {
                Err(error) => {
                    let state = self.on_cpu()?.state()?;
                    self.go_on_with(sequence, state, &error);
                }
                done => return done,
            }
        }
        let state = sequence.cpu().expect("it is on one of the two");
        Ok(self.on_cpu()?.restore(state, tokens, saved))
    }

    fn is_side_by_side(&self) -> bool {
        !self.on_gpu
    }

    fn place(&self) -> &str {
        &self.place_name
    }

    fn why_there(&self) -> Option<&str> {
        self.why.as_deref()
    }

    fn take_notice(&mut self) -> Option<String> {
        self.notice.take()
    }
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
            assert!(
                text.parse::<DraftDevice>().unwrap_err().contains("the driver counts"),
                "{text}"
            );
        }
    }

    #[test]
    fn the_first_gpu_that_can_be_used_is_chosen() {
        let gpu = |ordinal: usize, unusable: Option<&str>| GpuInfo {
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
            ("gpu7", found(), "no such GPU; the list of devices shows"),
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
