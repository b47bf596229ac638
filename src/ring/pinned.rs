//! A ring between the CPU and a GPU: pinned memory of the host that both can address, and a GPU's operations on
//! doorbells.
//!
//! A wait holds back the work queued after it without occupying the GPU: no kernel spins on a GPU that may also draw a
//! desktop. The GPU reads and writes the slots across the bus; nothing is copied.

use super::Region;
use crate::error::{Error, Result};
use cudarc::driver::{CudaContext, CudaStream, DriverError, result, sys};
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;

/// Pinned memory of one context, freed when this is dropped.
pub struct Pinned {
    start: *mut c_void,
    address: u64,
    context: Arc<CudaContext>,
}

// SAFETY: it is only an address; the driver frees memory on any thread.
unsafe impl Send for Pinned {}
// SAFETY: as above.
unsafe impl Sync for Pinned {}

impl Pinned {
    /// The address for the GPU.
    pub fn device_address(&self) -> u64 {
        self.address
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let freed = self.context.bind_to_thread();
        // SAFETY: `region` got it from `malloc_host`, and it is no longer used.
        let freed = freed.and_then(|()| unsafe { result::free_host(self.start) });
        self.context.record_err(freed);
    }
}

fn failed(error: DriverError) -> Error {
    Error::Device(format!("the GPU has no memory to share: {error}"))
}

/// `bytes` zeros that CPU and GPU see. The region keeps them alive too.
///
/// # Errors
/// If the system has not enough memory to pin.
pub fn region(context: &Arc<CudaContext>, bytes: usize) -> Result<(Region, Arc<Pinned>)> {
    context.bind_to_thread().map_err(failed)?;
    let bytes = bytes.max(1);
    // Not write-combined, since the CPU reads what the GPU writes. The driver aligns it to pages of 4096 bytes.
    // SAFETY: the memory is freed by its owner, once.
    let start = unsafe { result::malloc_host(bytes, sys::CU_MEMHOSTALLOC_DEVICEMAP) };
    let start = start.map_err(failed)?;
    let mut pinned = Pinned { start, address: 0, context: context.clone() };
    // SAFETY: `start` is pinned and mapped memory of this context.
    unsafe {
        start.cast::<u8>().write_bytes(0, bytes);
        sys::cuMemHostGetDevicePointer_v2(&mut pinned.address, start, 0)
            .result()
            .map_err(failed)?;
    }
    let pinned = Arc::new(pinned);
    let start = NonNull::new(start.cast()).expect("the driver gave memory");
    // SAFETY: zeroed above, aligned to a page, valid until `pinned` is dropped, and used only by the ring's sides.
    Ok((unsafe { Region::new(start, bytes, Box::new(pinned.clone())) }, pinned))
}

/// Makes work that is queued on `stream` later wait until the word at `doorbell` has reached `value` or passed it.
///
/// # Errors
/// Those of the driver.
///
/// # Safety
/// `doorbell` must be a word of a [`region`] of the stream's context, and live until the wait is over.
pub unsafe fn wait(
    stream: &CudaStream,
    doorbell: u64,
    value: u32,
) -> std::result::Result<(), DriverError> {
    let flags = sys::CUstreamWaitValue_flags_enum::CU_STREAM_WAIT_VALUE_GEQ as u32;
    stream.context().bind_to_thread()?;
    // SAFETY: the caller's promise.
    unsafe { sys::cuStreamWaitValue32_v2(stream.cu_stream(), doorbell, value, flags) }.result()
}

/// Writes `value` to the word at `doorbell` after all work queued on `stream` before is done and visible.
///
/// # Errors
/// Those of the driver.
///
/// # Safety
/// As for [`wait`].
pub unsafe fn ring(
    stream: &CudaStream,
    doorbell: u64,
    value: u32,
) -> std::result::Result<(), DriverError> {
    let flags = sys::CUstreamWriteValue_flags_enum::CU_STREAM_WRITE_VALUE_DEFAULT as u32;
    stream.context().bind_to_thread()?;
    // SAFETY: the caller's promise.
    unsafe { sys::cuStreamWriteValue32_v2(stream.cu_stream(), doorbell, value, flags) }.result()
}
