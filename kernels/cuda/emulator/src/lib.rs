//! Runs Dovetail's CUDA kernels on the CPU: the same sources, compiled by the C++ compiler.
//!
//! For tests, where no GPU is. A block's threads are fibers of the calling thread, and blocks run one after
//! the other. What a GPU would leave undefined is an error here where it is seen: a barrier or shuffle that not
//! all reach, an access that is misaligned or outside of [`Memory`] and shared variables, threads that race.
//! Shared variables are full of NaNs when a block begins. Numbers differ from a GPU's in the last bits of
//! `expf` and its like, in products of matrices, and because no multiplication is fused with an addition.
//!
//! ```text
//! build.rs         makes C++ of the kernels and lists them
//! src/emulated.h   CUDA's words
//! src/runtime.cpp  fibers, barriers, collectives
//! src/memory.cpp   what may be accessed, and races
//! src/switch.S     from one fiber to another
//! ```

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::NonNull;

unsafe extern "C" {
    fn dovetail_emulated_alloc(bytes: usize) -> *mut c_void;
    fn dovetail_emulated_free(memory: *mut c_void);
    fn dovetail_emulated_launch(
        name: *const c_char,
        grid: *const u32,
        threads: u32,
        args: *const c_void,
        args_bytes: usize,
        order: u32,
        message: *mut c_char,
        message_bytes: usize,
    ) -> c_int;
}

/// Memory that kernels may use, as a GPU's own: zeros at a multiple of 256. Rust sees it through pointers alone.
pub struct Memory {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: it is only an address and a size; who uses the memory is said where it is used.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// So many bytes.
    ///
    /// # Panics
    /// When there is no memory left.
    pub fn new(bytes: usize) -> Memory {
        // SAFETY: it takes any size.
        let start = NonNull::new(unsafe { dovetail_emulated_alloc(bytes) });
        Memory { start: start.expect("memory for a test").cast(), bytes }
    }

    /// Where it begins.
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Where it begins, as kernels are told.
    pub fn address(&self) -> u64 {
        self.start.as_ptr() as u64
    }

    /// How many bytes it has.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: it was made there, and this is its owner.
        unsafe { dovetail_emulated_free(self.start.as_ptr().cast()) };
    }
}

/// Runs `kernel` in `grid` blocks of `threads` threads, threads and blocks in ascending order.
///
/// # Safety
/// The pointers in `args`, the bytes of the kernel's structure, must be good for what the kernel does.
///
/// # Errors
/// As [`launch_in_order`].
pub unsafe fn launch(
    kernel: &str,
    grid: [u32; 2],
    threads: u32,
    args: &[u8],
) -> Result<(), String> {
    // SAFETY: the caller's promise is the same.
    unsafe { launch_in_order(kernel, grid, threads, args, 0) }
}

/// As [`launch`], with blocks and threads in an order drawn from the seed `order`, 0 being the ascending one. A
/// kernel without races writes the same bits in all orders.
///
/// # Safety
/// The pointers in `args`, the bytes of the kernel's structure, must be good for what the kernel does.
///
/// # Errors
/// When there is no such kernel, its argument has another size, threads are not whole warps or too many, or
/// the kernel did what a GPU leaves undefined.
pub unsafe fn launch_in_order(
    kernel: &str,
    grid: [u32; 2],
    threads: u32,
    args: &[u8],
    order: u32,
) -> Result<(), String> {
    // SAFETY: as many bytes as are said; the rest the caller promises.
    unsafe { call(kernel, grid, threads, Some(args), args.len(), order) }
}

/// Whether `kernel` can be launched so, with a structure of `args_bytes` bytes.
///
/// # Errors
/// When there is no such kernel, its argument has another size, or threads are not whole warps or too many.
pub fn check(kernel: &str, grid: [u32; 2], threads: u32, args_bytes: usize) -> Result<(), String> {
    // SAFETY: without arguments nothing runs.
    unsafe { call(kernel, grid, threads, None, args_bytes, 0) }
}

/// # Safety
/// As [`launch`], if there are arguments.
unsafe fn call(
    kernel: &str,
    grid: [u32; 2],
    threads: u32,
    args: Option<&[u8]>,
    args_bytes: usize,
    order: u32,
) -> Result<(), String> {
    let name = CString::new(kernel).map_err(|_| "a kernel's name has no zeros".to_owned())?;
    let args = args.map_or(std::ptr::null(), |args| args.as_ptr().cast());
    let mut message = [0 as c_char; 1024];
    // SAFETY: name and message end with a zero, lengths are theirs; the rest the caller promises.
    let failed = unsafe {
        dovetail_emulated_launch(
            name.as_ptr(),
            grid.as_ptr(),
            threads,
            args,
            args_bytes,
            order,
            message.as_mut_ptr(),
            message.len(),
        )
    };
    if failed == 0 {
        return Ok(());
    }
    // SAFETY: it was written with a zero at its end.
    Err(unsafe { CStr::from_ptr(message.as_ptr()) }.to_string_lossy().into_owned())
}
