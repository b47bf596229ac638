//! What is needed of a GPU: memory, kernels in a fixed order, doorbells.
//!
//! Work is queued and runs in the order of queueing, beside the caller. `cuda.rs` is the real one; tests
//! have another, which runs the same kernels on the CPU.
//!
//! Memory is freed when the last that uses it is dropped: a [`Buffer`], a part of one, or recorded work. It
//! knows its length and its device, and another device refuses it.

use crate::error::Result;
use crate::ring::{DOORBELLS_AT, Region};
use bytemuck::{AnyBitPattern, NoUninit};
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// A GPU, and one queue of work on it.
///
/// # Panics
/// Functions that take memory, or launches that use it, panic where it is another device's.
pub trait Device: Send {
    /// How many blocks run side by side, at least.
    fn multiprocessors(&self) -> usize;

    /// Bytes of its memory, all zero.
    ///
    /// # Errors
    /// When it has not as many left.
    fn alloc(&mut self, bytes: usize) -> Result<Memory>;

    /// Bytes of its memory that are allocated.
    fn used_bytes(&self) -> usize;

    /// Copies `bytes` to its memory, at once: nothing that runs now may use that memory, though what is queued and
    /// waits for the host may.
    ///
    /// # Errors
    /// When the device fails.
    ///
    /// # Panics
    /// Where the memory is not as long.
    fn write(&mut self, to: &Memory, bytes: &[u8]) -> Result<()>;

    /// Waits for all that was queued, then copies its memory.
    ///
    /// # Errors
    /// When the device fails, or has failed at something queued before.
    ///
    /// # Panics
    /// Where the memory is not as long.
    fn read(&mut self, from: &Memory, bytes: &mut [u8]) -> Result<()>;

    /// Waits for all that was queued.
    ///
    /// # Errors
    /// When the device fails, or has failed at something queued before.
    fn finish(&mut self) -> Result<()>;

    /// Memory of the host that the device sees too, all zero, for a ring: its end on the host, and what the device
    /// sees.
    ///
    /// # Errors
    /// When the device fails.
    fn share(&mut self, bytes: usize) -> Result<(Region, Shared)>;

    /// Makes one piece of work of these launches; returns its number. It keeps the memory that they use.
    ///
    /// # Errors
    /// When there is no such kernel, or the device fails.
    fn record(&mut self, launches: &[Launch]) -> Result<usize>;

    /// Queues a recorded piece of work.
    ///
    /// # Errors
    /// When the device fails.
    fn run(&mut self, work: usize) -> Result<()>;

    /// Queues a wait until the word at `doorbell` is `value` or has passed it.
    ///
    /// # Errors
    /// When the device fails.
    fn wait(&mut self, doorbell: &Doorbell, value: u32) -> Result<()>;

    /// Queues a write of `value` to the word at `doorbell`; what was queued before is seen by whoever sees it.
    ///
    /// # Errors
    /// When the device fails.
    fn ring(&mut self, doorbell: &Doorbell, value: u32) -> Result<()>;

    /// Whether all went well so far; does not wait.
    ///
    /// # Errors
    /// When something queued before has failed.
    fn check(&mut self) -> Result<()>;
}

/// Tells the devices of this process apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceId(u64);

impl DeviceId {
    /// That of a new device.
    pub fn new() -> DeviceId {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        DeviceId(NEXT.fetch_add(1, Relaxed))
    }
}

/// A part of a device's memory, or all of an allocation.
#[derive(Clone)]
pub struct Memory {
    of: Arc<Allocation>,
    /// First byte in the allocation.
    first: usize,
    bytes: usize,
}

struct Allocation {
    device: DeviceId,
    address: u64,
    _owner: Box<dyn Send + Sync>,
}

impl Memory {
    /// The `bytes` bytes at this address, as `device` counts.
    ///
    /// # Safety
    /// They are valid for that device until `owner` is dropped, initialised, and belong to nobody else.
    pub unsafe fn new(
        device: DeviceId,
        address: u64,
        bytes: usize,
        owner: impl Send + Sync + 'static,
    ) -> Memory {
        let of = Allocation { device, address, _owner: Box::new(owner) };
        Memory { of: Arc::new(of), first: 0, bytes }
    }

    /// How many bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where they are, for this device.
    ///
    /// # Panics
    /// Where they are another device's.
    pub fn address_on(&self, device: DeviceId) -> u64 {
        assert!(self.of.device == device, "memory of another device");
        self.address()
    }

    fn address(&self) -> u64 {
        self.of.address + self.first as u64
    }

    fn part(&self, range: Range<usize>) -> Memory {
        assert!(range.start <= range.end && range.end <= self.bytes, "a part is inside");
        Memory { of: self.of.clone(), first: self.first + range.start, bytes: range.len() }
    }
}

/// Bytes that count as used until this is dropped.
pub struct Counted {
    bytes: usize,
    used: Arc<AtomicUsize>,
}

impl Counted {
    /// So many more.
    pub fn new(bytes: usize, used: &Arc<AtomicUsize>) -> Counted {
        used.fetch_add(bytes, Relaxed);
        Counted { bytes, used: used.clone() }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Relaxed);
    }
}

/// Memory of a device that holds some of `T`. Clones are the same memory.
pub struct Buffer<T> {
    memory: Memory,
    of: PhantomData<T>,
}

impl<T> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        Buffer { memory: self.memory.clone(), of: PhantomData }
    }
}

impl<T: NoUninit + AnyBitPattern> Buffer<T> {
    /// `len` zeros on the device.
    pub fn new(device: &mut dyn Device, len: usize) -> Result<Buffer<T>> {
        let memory = device.alloc(len * size_of::<T>())?;
        Ok(Buffer { memory, of: PhantomData })
    }

    /// These on the device.
    pub fn of(device: &mut dyn Device, data: &[T]) -> Result<Buffer<T>> {
        let buffer = Buffer::new(device, data.len())?;
        buffer.write(device, 0, data)?;
        Ok(buffer)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.memory.bytes / size_of::<T>()
    }

    /// The bytes.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The same as words.
    pub fn as_words(&self) -> Buffer<u32> {
        Buffer { memory: self.memory.clone(), of: PhantomData }
    }

    /// A part of it.
    ///
    /// # Panics
    /// Where it is not inside.
    pub fn part(&self, range: Range<usize>) -> Buffer<T> {
        let bytes = range.start * size_of::<T>()..range.end * size_of::<T>();
        Buffer { memory: self.memory.part(bytes), of: PhantomData }
    }

    /// Copies `data` to place `first` and those after it.
    pub fn write(&self, device: &mut dyn Device, first: usize, data: &[T]) -> Result<()> {
        let part = self.part(first..first + data.len());
        device.write(&part.memory, bytemuck::cast_slice(data))
    }

    /// All of it, once what was queued is done.
    pub fn read(&self, device: &mut dyn Device) -> Result<Vec<T>> {
        let mut data = vec![T::zeroed(); self.len()];
        device.read(&self.memory, bytemuck::cast_slice_mut(&mut data))?;
        Ok(data)
    }
}

/// Memory of the host as a device sees it: that of a ring, one end of which is a [`Region`]. Kernels use it, in
/// work that is queued between the ring's doorbells, and nothing else. Clones are the same memory.
#[derive(Clone)]
pub struct Shared(Memory);

impl Shared {
    /// # Safety
    /// It is the memory of a [`Region`].
    pub unsafe fn new(memory: Memory) -> Shared {
        Shared(memory)
    }

    /// How many bytes.
    pub fn bytes(&self) -> usize {
        self.0.bytes
    }

    /// The word at `at`: [`Layout::head_at`](crate::ring::Layout::head_at) or
    /// [`Layout::tail_at`](crate::ring::Layout::tail_at).
    ///
    /// # Panics
    /// Where there is none.
    pub fn doorbell(&self, at: usize) -> Doorbell {
        assert!(DOORBELLS_AT.contains(&at), "there is a doorbell");
        Doorbell(self.0.part(at..at + size_of::<u32>()))
    }
}

/// A word of a ring that both sides see. Clones are the same word.
#[derive(Clone)]
pub struct Doorbell(Memory);

impl Doorbell {
    /// Where it is, for this device.
    ///
    /// # Panics
    /// Where it is another device's.
    pub fn address_on(&self, device: DeviceId) -> u64 {
        self.0.address_on(device)
    }
}

/// The memory that a launch uses, put together while the addresses are written to its argument.
#[derive(Default)]
pub struct Uses(Vec<Memory>);

impl Uses {
    /// Uses a buffer; returns where it is.
    pub fn buffer<T>(&mut self, buffer: &Buffer<T>) -> u64 {
        self.memory(&buffer.memory)
    }

    /// The same of one that may be missing: then it is nowhere.
    pub fn optional<T>(&mut self, buffer: Option<&Buffer<T>>) -> u64 {
        buffer.map_or(0, |buffer| self.buffer(buffer))
    }

    /// The same of shared memory.
    pub fn shared(&mut self, shared: &Shared) -> u64 {
        self.memory(&shared.0)
    }

    /// The same of a doorbell.
    pub fn doorbell(&mut self, doorbell: &Doorbell) -> u64 {
        self.memory(&doorbell.0)
    }

    fn memory(&mut self, memory: &Memory) -> u64 {
        self.0.push(memory.clone());
        memory.address()
    }
}

/// One launch of a kernel.
#[derive(Clone)]
pub struct Launch {
    kernel: &'static str,
    grid: [u32; 2],
    threads: u32,
    args: Vec<u8>,
    uses: Vec<Memory>,
}

impl Launch {
    /// A launch of the kernel of this name in `kernels/cuda`, in `grid` blocks (x and y) of `threads` threads.
    ///
    /// # Safety
    /// `args` is the structure that the kernel takes. Whatever it points to is in `uses`, and as long as what the
    /// kernel reads and writes there.
    pub unsafe fn new(
        kernel: &'static str,
        grid: [u32; 2],
        threads: u32,
        args: &impl NoUninit,
        uses: Uses,
    ) -> Launch {
        Launch { kernel, grid, threads, args: bytemuck::bytes_of(args).to_vec(), uses: uses.0 }
    }

    /// The kernel's name.
    pub fn kernel(&self) -> &'static str {
        self.kernel
    }

    /// Blocks in x and y.
    pub fn grid(&self) -> [u32; 2] {
        self.grid
    }

    /// Threads of a block.
    pub fn threads(&self) -> u32 {
        self.threads
    }

    /// The bytes of its argument.
    pub fn args(&self) -> &[u8] {
        &self.args
    }

    /// The memory that it uses.
    ///
    /// # Panics
    /// Where it is not of this device.
    pub fn uses_on(&self, device: DeviceId) -> &[Memory] {
        self.uses.iter().for_each(|memory| _ = memory.address_on(device));
        &self.uses
    }
}
