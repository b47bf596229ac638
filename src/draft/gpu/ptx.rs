//! The kernels in PTX.
pub struct Ptx { pub name: &'static str, pub arch: u32, pub text: &'static str }
pub static PTX: &[Ptx] = &[];
