//! The interface of a GPU: memory, kernels in a fixed order, doorbells.
//!
//! Work is queued and runs in queue order, concurrently with the caller. `cuda.rs` is the real device; tests have
//! another one, which runs the same kernels on the CPU.
//!
//! Memory is freed when its last user is dropped: a [`Buffer`], a part of one, or recorded work. It knows its length
//! and its device, and other devices refuse it.

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
/// Functions panic if the memory or the launches that they are given belong to another device.
pub trait Device: Send {
    /// Least number of blocks that run side by side.
    fn multiprocessors(&self) -> usize;

    /// Allocates memory, all zero.
    ///
    /// # Errors
    /// If not enough is left.
    fn alloc(&mut self, bytes: usize) -> Result<Memory>;

    /// Number of bytes that are allocated.
    fn used_bytes(&self) -> usize;

    /// Copies `bytes` to its memory at once. Work that runs now must not use that memory; work that is queued and waits
    /// for the host may.
    ///
    /// # Errors
    /// If the device fails.
    ///
    /// # Panics
    /// If the lengths differ.
    fn write(&mut self, to: &Memory, bytes: &[u8]) -> Result<()>;

    /// Waits for all queued work, then copies its memory.
    ///
    /// # Errors
    /// If the device fails, or queued work has failed.
    ///
    /// # Panics
    /// If the lengths differ.
    fn read(&mut self, from: &Memory, bytes: &mut [u8]) -> Result<()>;

    /// Waits for all queued work.
    ///
    /// # Errors
    /// If the device fails, or queued work has failed.
    fn finish(&mut self) -> Result<()>;

    /// Allocates memory of the host that the device sees too, all zero, for a ring. Returns the host's end and the
    /// device's view.
    ///
    /// # Errors
    /// If the device fails.
    fn share(&mut self, bytes: usize) -> Result<(Region, Shared)>;

    /// Records launches as one piece of work, which keeps the memory that they use. Returns its number.
    ///
    /// # Errors
    /// If a kernel does not exist, or the device fails.
    fn record(&mut self, launches: &[Launch]) -> Result<usize>;

    /// Queues recorded work.
    ///
    /// # Errors
    /// If the device fails.
    fn run(&mut self, work: usize) -> Result<()>;

    /// Queues a wait until the word at `doorbell` reaches `value`, or has passed it.
    ///
    /// # Errors
    /// If the device fails.
    fn wait(&mut self, doorbell: &Doorbell, value: u32) -> Result<()>;

    /// Queues a write of `value` to the word at `doorbell`. A reader that sees it also sees the effects of all work
    /// queued before.
    ///
    /// # Errors
    /// If the device fails.
    fn ring(&mut self, doorbell: &Doorbell, value: u32) -> Result<()>;

    /// Checks for failures so far, without waiting.
    ///
    /// # Errors
    /// If queued work has failed.
    fn check(&mut self) -> Result<()>;
}

/// Identifies a device of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceId(u64);

impl DeviceId {
    /// An identifier for a new device.
    pub fn new() -> DeviceId {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        DeviceId(NEXT.fetch_add(1, Relaxed))
    }
}

/// A part of a device's memory, or all of an allocation.
#[derive(Clone)]
pub struct Memory {
    allocation: Arc<Allocation>,
    /// Offset of the first byte in the allocation.
    first: usize,
    bytes: usize,
}

struct Allocation {
    device: DeviceId,
    address: u64,
    _owner: Box<dyn Send + Sync>,
}

impl Memory {
    /// The `bytes` bytes at this address of `device`.
    ///
    /// # Safety
    /// They must be initialised, valid for that device until `owner` is dropped, and used by nothing else.
    pub unsafe fn new(
        device: DeviceId,
        address: u64,
        bytes: usize,
        owner: impl Send + Sync + 'static,
    ) -> Memory {
        let allocation = Allocation { device, address, _owner: Box::new(owner) };
        Memory { allocation: Arc::new(allocation), first: 0, bytes }
    }

    /// Length in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The address for this device.
    ///
    /// # Panics
    /// If the memory belongs to another device.
    pub fn address_on(&self, device: DeviceId) -> u64 {
        assert!(self.allocation.device == device, "memory of another device");
        self.address()
    }

    fn address(&self) -> u64 {
        self.allocation.address + self.first as u64
    }

    fn part(&self, range: Range<usize>) -> Memory {
        assert!(range.start <= range.end && range.end <= self.bytes, "a part is inside");
        Memory {
            allocation: self.allocation.clone(),
            first: self.first + range.start,
            bytes: range.len(),
        }
    }
}

/// Bytes that count as used until this is dropped.
pub struct CountedBytes {
    bytes: usize,
    used: Arc<AtomicUsize>,
}

impl CountedBytes {
    /// Counts `bytes` more.
    pub fn new(bytes: usize, used: &Arc<AtomicUsize>) -> CountedBytes {
        used.fetch_add(bytes, Relaxed);
        CountedBytes { bytes, used: used.clone() }
    }
}

impl Drop for CountedBytes {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Relaxed);
    }
}

/// Memory of a device that holds values of `T`. Clones are the same memory.
pub struct Buffer<T> {
    memory: Memory,
    _values: PhantomData<T>,
}

impl<T> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        Buffer { memory: self.memory.clone(), _values: PhantomData }
    }
}

impl<T: NoUninit + AnyBitPattern> Buffer<T> {
    /// `len` zeros on the device.
    pub fn new(device: &mut dyn Device, len: usize) -> Result<Buffer<T>> {
        let memory = device.alloc(len * size_of::<T>())?;
        Ok(Buffer { memory, _values: PhantomData })
    }

    /// A copy of `data` on the device.
    pub fn from_slice(device: &mut dyn Device, data: &[T]) -> Result<Buffer<T>> {
        let buffer = Buffer::new(device, data.len())?;
        buffer.write(device, 0, data)?;
        Ok(buffer)
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.memory.bytes / size_of::<T>()
    }

    /// Its memory.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The same memory as 32-bit words.
    pub fn as_words(&self) -> Buffer<u32> {
        Buffer { memory: self.memory.clone(), _values: PhantomData }
    }

    /// A part of it.
    ///
    /// # Panics
    /// If the range is not inside.
    pub fn part(&self, range: Range<usize>) -> Buffer<T> {
        let bytes = range.start * size_of::<T>()..range.end * size_of::<T>();
        Buffer { memory: self.memory.part(bytes), _values: PhantomData }
    }

    /// Copies `data` to the values from `first` on.
    pub fn write(&self, device: &mut dyn Device, first: usize, data: &[T]) -> Result<()> {
        let part = self.part(first..first + data.len());
        device.write(&part.memory, bytemuck::cast_slice(data))
    }

    /// Waits for queued work, then copies all values.
    pub fn read(&self, device: &mut dyn Device) -> Result<Vec<T>> {
        let mut data = vec![T::zeroed(); self.len()];
        device.read(&self.memory, bytemuck::cast_slice_mut(&mut data))?;
        Ok(data)
    }
}

/// Memory of the host as a device sees it: that of a ring, one end of which is a [`Region`]. Only kernels use it, in
/// work that is queued between the ring's doorbells. Clones are the same memory.
#[derive(Clone)]
pub struct Shared(Memory);

impl Shared {
    /// # Safety
    /// It must be the memory of a [`Region`].
    pub unsafe fn new(memory: Memory) -> Shared {
        Shared(memory)
    }

    /// Length in bytes.
    pub fn bytes(&self) -> usize {
        self.0.bytes
    }

    /// The word at `at`: [`Layout::head_at`](crate::ring::Layout::head_at) or
    /// [`Layout::tail_at`](crate::ring::Layout::tail_at).
    ///
    /// # Panics
    /// If there is no word.
    pub fn doorbell(&self, at: usize) -> Doorbell {
        assert!(DOORBELLS_AT.contains(&at), "there is a doorbell");
        Doorbell(self.0.part(at..at + size_of::<u32>()))
    }
}

/// A word of a ring that both sides see. Clones are the same word.
#[derive(Clone)]
pub struct Doorbell(Memory);

impl Doorbell {
    /// The address for this device.
    ///
    /// # Panics
    /// If the memory belongs to another device.
    pub fn address_on(&self, device: DeviceId) -> u64 {
        self.0.address_on(device)
    }
}

/// The memory that a launch uses, collected while the addresses are written to its argument.
#[derive(Default)]
pub struct LaunchMemory(Vec<Memory>);

impl LaunchMemory {
    /// Adds a buffer. Returns its address.
    pub fn buffer<T>(&mut self, buffer: &Buffer<T>) -> u64 {
        self.add(&buffer.memory)
    }

    /// Adds a buffer if there is one. Returns its address, or 0.
    pub fn optional<T>(&mut self, buffer: Option<&Buffer<T>>) -> u64 {
        buffer.map_or(0, |buffer| self.buffer(buffer))
    }

    /// Adds shared memory. Returns its address.
    pub fn shared(&mut self, shared: &Shared) -> u64 {
        self.add(&shared.0)
    }

    /// Adds a doorbell. Returns its address.
    pub fn doorbell(&mut self, doorbell: &Doorbell) -> u64 {
        self.add(&doorbell.0)
    }

    fn add(&mut self, memory: &Memory) -> u64 {
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
    memory: Vec<Memory>,
}

impl Launch {
    /// A launch of the kernel with this name in `kernels/cuda`, in `grid` blocks (x and y) of `threads` threads.
    ///
    /// # Safety
    /// `args` must be the structure that the kernel takes. All memory that it points to must be in `memory`, and be as
    /// long as the kernel reads and writes there.
    pub unsafe fn new(
        kernel: &'static str,
        grid: [u32; 2],
        threads: u32,
        args: &impl NoUninit,
        memory: LaunchMemory,
    ) -> Launch {
        Launch { kernel, grid, threads, args: bytemuck::bytes_of(args).to_vec(), memory: memory.0 }
    }

    /// The kernel's name.
    pub fn kernel(&self) -> &'static str {
        self.kernel
    }

    /// Number of blocks in x and y.
    pub fn grid(&self) -> [u32; 2] {
        self.grid
    }

    /// Number of threads of a block.
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
    /// If it belongs to another device.
    pub fn memory_on(&self, device: DeviceId) -> &[Memory] {
        self.memory.iter().for_each(|memory| _ = memory.address_on(device));
        &self.memory
    }
}
