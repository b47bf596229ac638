//! What a drafter needs of a GPU: memory, kernels in a fixed order, doorbells.
//!
//! Work is queued and runs in the order of queueing, beside the caller. `cuda.rs` is the real one; tests
//! have another, which runs the same kernels on the CPU.

use crate::error::Result;
use crate::ring::Region;
use bytemuck::{AnyBitPattern, NoUninit};
use std::marker::PhantomData;
use std::ops::Range;

/// A GPU, and one queue of work on it.
pub trait Device: Send {
    /// How many blocks run side by side, at least.
    fn multiprocessors(&self) -> usize;

    /// Bytes of its memory, all zero, as long as the device lives.
    ///
    /// # Errors
    /// When it has not as many left.
    fn alloc(&mut self, bytes: usize) -> Result<u64>;

    /// Bytes of its memory that were allocated.
    fn used_bytes(&self) -> usize;

    /// Copies `bytes` to its memory at `to`, at once: nothing that runs now may use that memory, though what is
    /// queued and waits for the host may.
    ///
    /// # Errors
    /// When the device fails.
    fn write(&mut self, to: u64, bytes: &[u8]) -> Result<()>;

    /// Waits for all that was queued, then copies its memory at `from`.
    ///
    /// # Errors
    /// When the device fails, or has failed at something queued before.
    fn read(&mut self, from: u64, bytes: &mut [u8]) -> Result<()>;

    /// Memory of the host that the device sees too, all zero, and where the device sees it.
    ///
    /// # Errors
    /// When the device fails.
    fn share(&mut self, bytes: usize) -> Result<(Region, u64)>;

    /// Makes one piece of work of these launches; returns its number.
    ///
    /// # Errors
    /// When there is no such kernel, or the device fails.
    fn record(&mut self, launches: &[Launch]) -> Result<usize>;

    /// Queues a recorded piece of work.
    ///
    /// # Errors
    /// When the device fails.
    fn run(&mut self, work: usize) -> Result<()>;

    /// Queues a wait until the shared word at `doorbell` is `value` or has passed it.
    ///
    /// # Errors
    /// When the device fails.
    fn wait(&mut self, doorbell: u64, value: u32) -> Result<()>;

    /// Queues a write of `value` to the shared word at `doorbell`; what was queued before is seen by whoever
    /// sees it.
    ///
    /// # Errors
    /// When the device fails.
    fn ring(&mut self, doorbell: u64, value: u32) -> Result<()>;

    /// Whether all went well so far; does not wait.
    ///
    /// # Errors
    /// When something queued before has failed.
    fn check(&mut self) -> Result<()>;
}

/// One launch of a kernel.
pub struct Launch {
    /// Its name in `kernels/cuda`.
    pub kernel: &'static str,
    /// Blocks in x and y.
    pub grid: [u32; 2],
    /// Threads of a block.
    pub threads: u32,
    /// The bytes of its argument, a structure.
    pub args: Vec<u8>,
}

/// Memory of a device that holds `len` of `T`.
pub struct Buffer<T> {
    address: u64,
    len: usize,
    of: PhantomData<T>,
}

impl<T> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Buffer<T> {}

impl<T: NoUninit + AnyBitPattern> Buffer<T> {
    /// `len` zeros on the device.
    pub fn new(device: &mut dyn Device, len: usize) -> Result<Buffer<T>> {
        let address = device.alloc(len * size_of::<T>())?;
        Ok(Buffer { address, len, of: PhantomData })
    }

    /// These on the device.
    pub fn of(device: &mut dyn Device, data: &[T]) -> Result<Buffer<T>> {
        let buffer = Buffer::new(device, data.len())?;
        buffer.write(device, 0, data)?;
        Ok(buffer)
    }

    /// Where it is.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The same as words.
    pub fn as_words(&self) -> Buffer<u32> {
        let len = self.len * size_of::<T>() / size_of::<u32>();
        Buffer { address: self.address, len, of: PhantomData }
    }

    /// A part of it.
    ///
    /// # Panics
    /// Where it is not inside.
    pub fn part(&self, range: Range<usize>) -> Buffer<T> {
        assert!(range.start <= range.end && range.end <= self.len, "a part is inside");
        let address = self.address + (range.start * size_of::<T>()) as u64;
        Buffer { address, len: range.len(), of: PhantomData }
    }

    /// Copies `data` to place `first` and those after it.
    pub fn write(&self, device: &mut dyn Device, first: usize, data: &[T]) -> Result<()> {
        let part = self.part(first..first + data.len());
        device.write(part.address, bytemuck::cast_slice(data))
    }

    /// All of it, once what was queued is done.
    pub fn read(&self, device: &mut dyn Device) -> Result<Vec<T>> {
        let mut data = vec![T::zeroed(); self.len];
        device.read(self.address, bytemuck::cast_slice_mut(&mut data))?;
        Ok(data)
    }
}
