//! The kernels as PTX, which the driver compiles for the GPU. `scripts/build-ptx` makes the files, and `build.rs`
//! embeds them.

/// A file of kernels for one compute capability and all later ones.
pub struct Ptx {
    /// The name of its source in `kernels/cuda`, without `.cu`.
    pub name: &'static str,
    /// The compute capability: 75 is 7.5.
    pub arch: u32,
    pub text: &'static str,
}

/// All files. A kernel without a file for a later capability uses that for an earlier one.
pub static PTX: &[Ptx] = include!(concat!(env!("OUT_DIR"), "/ptx.rs"));
