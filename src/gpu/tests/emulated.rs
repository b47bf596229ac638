//! An emulated device: kernels run on the CPU, and memory is the host's.
//!
//! A thread runs queued work in order, concurrently with the caller, as a GPU does.

use crate::error::{Error, Result};
use crate::gpu::device::{CountedBytes, Device, DeviceId, Doorbell, Launch, Memory, Shared};
use crate::ring::Region;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};

/// Kernels on the CPU, and a thread that runs them.
pub struct Emulated {
    id: DeviceId,
    used_bytes: Arc<AtomicUsize>,
    limit_bytes: usize,
    works: Vec<Arc<[Launch]>>,
    state: Arc<State>,
    /// Both are `Some` until the device is dropped.
    queue: Option<Sender<Item>>,
    thread: Option<JoinHandle<()>>,
}

/// Shared by both threads.
#[derive(Default)]
struct State {
    /// The device is being dropped: waits end.
    ends: AtomicBool,
    /// The first failure. As on a GPU, nothing runs after it.
    failure: OnceLock<String>,
    /// Locked by a launch or the caller while it uses memory.
    memory: Mutex<()>,
}

enum Item {
    Run(Arc<[Launch]>),
    Wait { doorbell: Doorbell, value: u32 },
    Ring { doorbell: Doorbell, value: u32 },
    FailAfter(u32),
    Done(Sender<()>),
}

impl Emulated {
    /// A device whose blocks and threads run in this order: see `cuda_emulator::launch_in_order`.
    pub fn new(order: u32) -> Emulated {
        let (queue, items) = channel();
        let state = Arc::new(State::default());
        let id = DeviceId::new();
        let mut worker = Worker { id, state: state.clone(), order, launches_left: u32::MAX };
        let thread = Some(thread::spawn(move || worker.work(&items)));
        Emulated {
            id,
            used_bytes: Arc::default(),
            limit_bytes: usize::MAX,
            works: Vec::new(),
            state,
            queue: Some(queue),
            thread,
        }
    }

    /// Limits its memory to this many bytes.
    pub fn limit(&mut self, bytes: usize) {
        self.limit_bytes = bytes;
    }

    /// Makes the launch after the next `n_launches` fail, counting from what is queued after this call.
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
}

impl Device for Emulated {
    /// Enough that work is split.
    fn multiprocessors(&self) -> usize {
        8
    }

    fn alloc(&mut self, bytes: usize) -> Result<Memory> {
        if self.used_bytes() + bytes > self.limit_bytes {
            return Err(Error::Device("there is no room".into()));
        }
        let memory = cuda_emulator::Memory::new(bytes);
        let address = memory.address();
        let owner = (memory, CountedBytes::new(bytes, &self.used_bytes));
        // SAFETY: zeros that nothing else uses.
        Ok(unsafe { Memory::new(self.id, address, bytes, owner) })
    }

    fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    fn write(&mut self, to: &Memory, bytes: &[u8]) -> Result<()> {
        assert_eq!(to.bytes(), bytes.len(), "memory as long as what is written");
        self.check()?;
        let to = to.address_on(self.id) as *mut u8;
        let _alone = self.state.memory.lock().expect("no launch panics");
        // SAFETY: the memory has this length, and no launch runs meanwhile.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    fn read(&mut self, from: &Memory, bytes: &mut [u8]) -> Result<()> {
        assert_eq!(from.bytes(), bytes.len(), "memory as long as what is read");
        self.finish()?;
        let from = from.address_on(self.id) as *const u8;
        let _alone = self.state.memory.lock().expect("no launch panics");
        // SAFETY: the memory has this length, and no launch runs meanwhile.
        unsafe { from.copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        let (done, all) = channel();
        self.push(Item::Done(done));
        all.recv().expect("the thread answers");
        self.check()
    }

    fn share(&mut self, bytes: usize) -> Result<(Region, Shared)> {
        let memory = Arc::new(cuda_emulator::Memory::new(bytes));
        let (start, address, owner) = (memory.start(), memory.address(), memory.clone());
        // SAFETY: zeros, aligned to more than 128, which live as long as the last of their owners.
        unsafe {
            let region = Region::new(start, bytes, Box::new(memory));
            Ok((region, Shared::new(Memory::new(self.id, address, bytes, owner))))
        }
    }

    fn record(&mut self, launches: &[Launch]) -> Result<usize> {
        for launch in launches {
            launch.memory_on(self.id);
            let (kernel, args) = (launch.kernel(), launch.args());
            cuda_emulator::check(kernel, launch.grid(), launch.threads(), args.len())
                .map_err(Error::Unsupported)?;
        }
        self.works.push(launches.into());
        Ok(self.works.len() - 1)
    }

    fn run(&mut self, work: usize) -> Result<()> {
        let launches = self.works[work].clone();
        self.push_checked(Item::Run(launches))
    }

    fn wait(&mut self, doorbell: &Doorbell, value: u32) -> Result<()> {
        doorbell.address_on(self.id);
        self.push_checked(Item::Wait { doorbell: doorbell.clone(), value })
    }

    fn ring(&mut self, doorbell: &Doorbell, value: u32) -> Result<()> {
        doorbell.address_on(self.id);
        self.push_checked(Item::Ring { doorbell: doorbell.clone(), value })
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

/// Processes the queue.
struct Worker {
    id: DeviceId,
    state: Arc<State>,
    order: u32,
    launches_left: u32,
}

impl Worker {
    fn work(&mut self, items: &Receiver<Item>) {
        for item in items {
            if let Item::Done(done) = item {
                // The caller may be gone.
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
                let word = word(doorbell, self.id);
                while (word.load(Ordering::Acquire).wrapping_sub(*value) as i32) < 0 {
                    if self.state.ends.load(Ordering::Acquire) {
                        return Err("the device ended while it waited".into());
                    }
                    thread::yield_now();
                }
            }
            Item::Ring { doorbell, value } => {
                word(doorbell, self.id).store(*value, Ordering::Release);
            }
            Item::FailAfter(n_launches) => self.launches_left = *n_launches,
            Item::Done(_) => {}
        }
        Ok(())
    }

    fn launch(&mut self, launch: &Launch) -> std::result::Result<(), String> {
        if self.launches_left == 0 {
            return Err(format!("{}: failed as a test asked", launch.kernel()));
        }
        if self.launches_left < u32::MAX {
            self.launches_left -= 1;
        }
        let (kernel, grid, threads) = (launch.kernel(), launch.grid(), launch.threads());
        let _alone = self.state.memory.lock().expect("nobody panics with it");
        // SAFETY: `Launch::new` was promised that the pointers are valid, and the launch holds their memory.
        unsafe { cuda_emulator::launch_in_order(kernel, grid, threads, launch.args(), self.order) }
    }
}

/// A word that both sides see.
fn word(doorbell: &Doorbell, device: DeviceId) -> &AtomicU32 {
    // SAFETY: an aligned word of memory that the doorbell keeps, which both sides use as an atomic.
    unsafe { AtomicU32::from_ptr(doorbell.address_on(device) as *mut u32) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::device::{Buffer, LaunchMemory};
    use crate::ring::DOORBELLS_AT;

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
    fn add(x: &Buffer<f32>, y: &Buffer<f32>, sum: &Buffer<f32>) -> Launch {
        assert!(x.len() == y.len() && x.len() == sum.len());
        let (n, mut memory) = (x.len() as u32, LaunchMemory::default());
        let [x, y, sum] = [x, y, sum].map(|buffer| memory.buffer(buffer));
        let args = Add { x, y, sum, n, unused: 0 };
        // SAFETY: the kernel reads and writes `n` floats.
        unsafe { Launch::new("test_add", [n.div_ceil(64), 1], 64, &args, memory) }
    }

    #[test]
    fn does_what_is_queued_in_order() {
        let mut device = Emulated::new(1);
        let x = Buffer::from_slice(&mut device, &[1.0f32; 100]).unwrap();
        let y = Buffer::new(&mut device, 100).unwrap();
        assert_eq!(x.memory().address_on(device.id) % 256, 0);
        let work = device.record(&[add(&x, &y, &y), add(&y, &y, &y)]).unwrap();
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
        let (region, shared) = device.share(256).unwrap();
        assert_eq!(region.len(), 256);
        let [there, back] = DOORBELLS_AT.map(|at| shared.doorbell(at));
        let [heard, answer] = [&there, &back].map(|doorbell| word(doorbell, device.id));
        device.wait(&there, u32::MAX).unwrap();
        device.ring(&back, 7).unwrap();
        heard.store(u32::MAX - 1, Ordering::Release);
        thread::sleep(std::time::Duration::from_millis(5));
        assert_eq!(answer.load(Ordering::Acquire), 0, "it has not come");
        heard.store(3, Ordering::Release); // has passed it, around the end of the numbers
        while answer.load(Ordering::Acquire) != 7 {
            thread::yield_now();
        }
        drop(region);
        drop(device);
    }

    #[test]
    fn ends_while_it_waits() {
        let mut device = Emulated::new(0);
        let (region, shared) = device.share(128).unwrap();
        device.wait(&shared.doorbell(0), 1).unwrap();
        drop((region, shared));
        drop(device);
    }

    #[test]
    fn a_failure_is_told_and_nothing_is_done_after_it() {
        let mut device = Emulated::new(0);
        let x = Buffer::from_slice(&mut device, &[1.0f32; 64]).unwrap();
        let (_region, shared) = device.share(128).unwrap();
        let doorbell = shared.doorbell(0);
        let work = device.record(&[add(&x, &x, &x)]).unwrap();
        device.fail_after(1);
        device.run(work).unwrap();
        assert_eq!(x.read(&mut device).unwrap(), [2.0; 64]);
        device.run(work).unwrap();
        let _ = device.ring(&doorbell, 1);
        assert!(x.read(&mut device).unwrap_err().to_string().contains("as a test asked"));
        assert!(device.check().is_err() && device.run(work).is_err());
        assert_eq!(word(&doorbell, device.id).load(Ordering::Acquire), 0);
    }

    #[test]
    fn a_wrong_launch_is_not_recorded() {
        const BYTES: usize = size_of::<Add>();
        let mut device = Emulated::new(0);
        // SAFETY: none of them runs.
        let [good, wrong @ ..] = unsafe {
            [
                Launch::new("test_add", [1, 1], 64, &[0u8; BYTES], LaunchMemory::default()),
                Launch::new("nothing", [1, 1], 64, &[0u8; BYTES], LaunchMemory::default()),
                Launch::new("test_add", [1, 1], 65, &[0u8; BYTES], LaunchMemory::default()),
                Launch::new("test_add", [1, 1], 64, &[0u8; BYTES - 1], LaunchMemory::default()),
            ]
        };
        assert!(device.record(&[good]).is_ok());
        for wrong in wrong {
            assert!(device.record(&[wrong]).is_err());
        }
    }
}
