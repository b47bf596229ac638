//! A device that is none: kernels run on the CPU, memory is the host's.
//!
//! A thread does what was queued, in order, beside the caller, as a GPU would.

use crate::error::{Error, Result};
use crate::gpu::device::{Device, Launch};
use crate::ring::Region;
use cuda_emulator::Memory;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

/// Kernels on the CPU, and a thread that runs them.
pub struct Emulated {
    memory: Vec<Arc<Memory>>,
    used_bytes: usize,
    limit_bytes: usize,
    works: Vec<Arc<[Launch]>>,
    state: Arc<State>,
    /// Both are there until the device is dropped.
    queue: Option<Sender<Item>>,
    thread: Option<JoinHandle<()>>,
}

/// What both threads know.
#[derive(Default)]
struct State {
    /// The device is being dropped: nobody is waited for any more.
    ends: AtomicBool,
    /// The first failure. As on a GPU, nothing is done after it.
    failure: OnceLock<String>,
}

enum Item {
    Run(Arc<[Launch]>),
    Wait { doorbell: u64, value: u32 },
    Ring { doorbell: u64, value: u32 },
    FailAfter(u32),
    Done(Sender<()>),
}

impl Emulated {
    /// One whose blocks and threads run in this order: see `cuda_emulator::launch_in_order`.
    pub fn new(order: u32) -> Emulated {
        let (queue, items) = channel();
        let state = Arc::new(State::default());
        let mut worker = Worker { state: state.clone(), order, launches_left: u32::MAX };
        let thread = Some(thread::spawn(move || worker.work(&items)));
        Emulated {
            memory: Vec::new(),
            used_bytes: 0,
            limit_bytes: usize::MAX,
            works: Vec::new(),
            state,
            queue: Some(queue),
            thread,
        }
    }

    /// Has no more than these bytes.
    pub fn limit(&mut self, bytes: usize) {
        self.limit_bytes = bytes;
    }

    /// Fails at the launch after the next `n_launches`, counted from what is queued from here on.
    pub fn fail_after(&mut self, n_launches: u32) {
        self.push(Item::FailAfter(n_launches));
    }

    fn push(&mut self, item: Item) {
        let queue = self.queue.as_ref().expect("it is there until the device is dropped");
        queue.send(item).expect("the thread takes items as long as there is a queue");
    }

    fn push_checked(&mut self, item: Item) -> Result<()> {
        self.check()?;
        self.push(item);
        Ok(())
    }

    fn zeros(&mut self, bytes: usize) -> Arc<Memory> {
        let memory = Arc::new(Memory::new(bytes));
        self.memory.push(memory.clone());
        memory
    }
}

impl Device for Emulated {
    /// Enough that work is cut into pieces.
    fn multiprocessors(&self) -> usize {
        8
    }

    fn alloc(&mut self, bytes: usize) -> Result<u64> {
        if self.used_bytes + bytes > self.limit_bytes {
            return Err(Error::Device("there is no room".into()));
        }
        self.used_bytes += bytes;
        Ok(self.zeros(bytes).address())
    }

    fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    fn write(&mut self, to: u64, bytes: &[u8]) -> Result<()> {
        self.check()?;
        let to = to as *mut u8;
        // SAFETY: an address is in memory of this device, which nothing that runs now uses.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    fn read(&mut self, from: u64, bytes: &mut [u8]) -> Result<()> {
        let (done, all) = channel();
        self.push(Item::Done(done));
        all.recv().expect("the thread answers");
        self.check()?;
        let from = from as *const u8;
        // SAFETY: an address is in memory of this device, with which its thread has nothing to do now.
        unsafe { from.copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    fn share(&mut self, bytes: usize) -> Result<(Region, u64)> {
        let memory = self.zeros(bytes);
        let (start, address) = (memory.start(), memory.address());
        // SAFETY: zeros, aligned to more than 128, which live as long as the longest of their owners.
        Ok((unsafe { Region::new(start, bytes, Box::new(memory)) }, address))
    }

    fn record(&mut self, launches: &[Launch]) -> Result<usize> {
        for launch in launches {
            let Launch { kernel, grid, threads, args } = launch;
            cuda_emulator::check(kernel, *grid, *threads, args.len())
                .map_err(Error::Unsupported)?;
        }
        let copy = |of: &Launch| Launch { args: of.args.clone(), ..*of };
        self.works.push(launches.iter().map(copy).collect());
        Ok(self.works.len() - 1)
    }

    fn run(&mut self, work: usize) -> Result<()> {
        let launches = self.works[work].clone();
        self.push_checked(Item::Run(launches))
    }

    fn wait(&mut self, doorbell: u64, value: u32) -> Result<()> {
        self.push_checked(Item::Wait { doorbell, value })
    }

    fn ring(&mut self, doorbell: u64, value: u32) -> Result<()> {
        self.push_checked(Item::Ring { doorbell, value })
    }

    fn check(&mut self) -> Result<()> {
        match self.state.failure.get() {
            None => Ok(()),
            Some(what) => Err(Error::Device(what.clone())),
        }
    }
}

impl Drop for Emulated {
    fn drop(&mut self) {
        self.state.ends.store(true, Ordering::Release);
        self.queue = None;
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || !matches!(ended, Some(Err(_))), "the thread does not panic");
    }
}

/// Takes what was queued.
struct Worker {
    state: Arc<State>,
    order: u32,
    launches_left: u32,
}

impl Worker {
    fn work(&mut self, items: &Receiver<Item>) {
        for item in items {
            if let Item::Done(done) = item {
                // Who asked may have gone.
                let _ = done.send(());
            } else if self.state.failure.get().is_none()
                && let Err(what) = self.take(&item)
            {
                self.state.failure.set(what).expect("only this thread fails");
            }
        }
    }

    fn take(&mut self, item: &Item) -> std::result::Result<(), String> {
        match item {
            Item::Run(launches) => {
                return launches.iter().try_for_each(|launch| self.launch(launch));
            }
            Item::Wait { doorbell, value } => {
                while (word(*doorbell).load(Ordering::Acquire).wrapping_sub(*value) as i32) < 0 {
                    if self.state.ends.load(Ordering::Acquire) {
                        return Err("the device ended while it waited".into());
                    }
                    thread::yield_now();
                }
            }
            Item::Ring { doorbell, value } => word(*doorbell).store(*value, Ordering::Release),
            Item::FailAfter(n_launches) => self.launches_left = *n_launches,
            Item::Done(_) => {}
        }
        Ok(())
    }

    fn launch(&mut self, launch: &Launch) -> std::result::Result<(), String> {
        let Launch { kernel, grid, threads, args } = launch;
        if self.launches_left == 0 {
            return Err(format!("{kernel}: failed as a test asked"));
        }
        if self.launches_left < u32::MAX {
            self.launches_left -= 1;
        }
        // SAFETY: the pointers of a launch are to memory of this device, which lives until the thread has ended.
        unsafe { cuda_emulator::launch_in_order(kernel, *grid, *threads, args, self.order) }
    }
}

/// A word that both sides see.
fn word<'a>(address: u64) -> &'a AtomicU32 {
    // SAFETY: a doorbell is an aligned word of memory that lives longer than what is queued, and both sides
    // use it as an atomic.
    unsafe { AtomicU32::from_ptr(address as *mut u32) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::device::Buffer;

    #[derive(Clone, Copy, bytemuck::NoUninit)]
    #[repr(C)]
    struct Add {
        x: u64,
        y: u64,
        sum: u64,
        n: u32,
        unused: u32,
    }

    /// The emulator's own kernel: `sum` = `x` + `y`.
    fn add(x: Buffer<f32>, y: Buffer<f32>, sum: Buffer<f32>) -> Launch {
        let n = x.len() as u32;
        let args = Add { x: x.address(), y: y.address(), sum: sum.address(), n, unused: 0 };
        let args = bytemuck::bytes_of(&args).to_vec();
        Launch { kernel: "test_add", grid: [n.div_ceil(64), 1], threads: 64, args }
    }

    #[test]
    fn does_what_is_queued_in_order() {
        let mut device = Emulated::new(1);
        let x = Buffer::of(&mut device, &[1.0f32; 100]).unwrap();
        let y = Buffer::new(&mut device, 100).unwrap();
        assert_eq!(x.address() % 256, 0);
        let work = device.record(&[add(x, y, y), add(y, y, y)]).unwrap();
        device.run(work).unwrap();
        assert_eq!(y.read(&mut device).unwrap(), [2.0; 100]);
        y.write(&mut device, 0, &[8.0f32; 50]).unwrap();
        device.run(work).unwrap();
        let all = y.read(&mut device).unwrap();
        assert_eq!((all[..50].to_vec(), all[50..].to_vec()), (vec![18.0; 50], vec![6.0; 50]));
    }

    #[test]
    fn waits_for_a_doorbell_and_rings_one() {
        let mut device = Emulated::new(0);
        let (region, start) = device.share(256).unwrap();
        assert_eq!(region.len(), 256);
        device.wait(start, u32::MAX).unwrap();
        device.ring(start + 128, 7).unwrap();
        word(start).store(u32::MAX - 1, Ordering::Release);
        thread::sleep(std::time::Duration::from_millis(5));
        assert_eq!(word(start + 128).load(Ordering::Acquire), 0, "it has not come");
        word(start).store(3, Ordering::Release); // has passed it, around the end of the numbers
        while word(start + 128).load(Ordering::Acquire) != 7 {
            thread::yield_now();
        }
        drop(device);
        drop(region);
    }

    #[test]
    fn ends_while_it_waits() {
        let mut device = Emulated::new(0);
        let (_region, start) = device.share(128).unwrap();
        device.wait(start, 1).unwrap();
        drop(device);
    }

    #[test]
    fn a_failure_is_told_and_nothing_is_done_after_it() {
        let mut device = Emulated::new(0);
        let x = Buffer::of(&mut device, &[1.0f32; 64]).unwrap();
        let (_region, start) = device.share(128).unwrap();
        let work = device.record(&[add(x, x, x)]).unwrap();
        device.fail_after(1);
        device.run(work).unwrap();
        assert_eq!(x.read(&mut device).unwrap(), [2.0; 64]);
        device.run(work).unwrap();
        let _ = device.ring(start, 1);
        assert!(x.read(&mut device).unwrap_err().to_string().contains("as a test asked"));
        assert!(device.check().is_err() && device.run(work).is_err());
        assert_eq!(word(start).load(Ordering::Acquire), 0);
    }

    #[test]
    fn a_wrong_launch_is_not_recorded() {
        let mut device = Emulated::new(0);
        let x = Buffer::of(&mut device, &[1.0f32; 64]).unwrap();
        let good = add(x, x, x);
        for wrong in [
            Launch { kernel: "nothing", args: good.args.clone(), ..good },
            Launch { threads: 65, args: good.args.clone(), ..good },
            Launch { args: good.args[1..].to_vec(), ..good },
        ] {
            assert!(device.record(&[wrong]).is_err());
        }
    }
}
