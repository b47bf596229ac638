//! The kernels as PTX, which the driver compiles for the GPU at hand. Made by `scripts/build-ptx` and embedded
//! by `build.rs`.

/// A file of kernels for one compute capability and all later ones.
pub struct Ptx {
    /// The file in `kernels/cuda`, without `.cu`.
    pub name: &'static str,
    /// The compute capability, 75 being 7.5.
    pub arch: u32,
    pub text: &'static str,
}

/// All files. Where one is not there for a later capability, that of an earlier one is the same.
pub static PTX: &[Ptx] = include!(concat!(env!("OUT_DIR"), "/ptx.rs"));
