//! How weights multiply on the CPU.
//!
//! Each algorithm is written once, over the 16 lanes of [`lanes::Lanes`]; an instruction set is one
//! file that implements those lanes. [`Kernels`] is a table of entry points chosen once, when a model
//! is loaded, and passed down.
//!
//! To add an instruction set: a file that implements `Lanes` and calls `instantiate!`, and a line in
//! [`Kernels::available`], best first. The tests run every kernel of every entry against
//! [`order`], by bits.

pub mod acts;
pub mod attention;
mod blocks;
pub mod lanes;
mod matmul;
mod native;
mod norm;
pub mod order;
pub mod pack;
pub mod rope;
pub mod scalar;
pub mod team;
mod weave;
#[cfg(target_arch = "x86_64")]
pub mod x86;

pub use acts::{ActRow, Forms};
pub use attention::Attention;
pub use lanes::LANES;
pub use native::{ProductScratch, Rows};
pub use pack::{LAYOUT_VERSION, Packed};
pub use rope::{Angles, RopeStyle};
pub use team::Team;

/// `matmul(w, first, x, out, add, scratch)`: groups `first..` of `w` by the rows `x`, as many groups as
/// `out` has tiles (groups, rows, 16); with `add` onto what `out` holds. `scratch` has
/// [`Packed::scratch_len`] floats.
pub type Matmul = fn(&Packed, usize, &[ActRow], &mut [f32], bool, &mut [f32]);

/// The kernels of one instruction set.
pub struct Kernels {
    /// Name as in `DOVETAIL_ISA`.
    pub name: &'static str,
    /// The product of packed weights and rows of activations.
    pub matmul: Matmul,
    /// `quantize(x, forms, out)`: one row of activations in the forms asked for.
    pub quantize: fn(&[f32], Forms, &mut ActRow),
    /// `rms_norm(x, weight, eps, out)`: RMSNorm of one row.
    pub rms_norm: fn(&[f32], &[f32], f32, &mut [f32]),
    /// `swiglu(gate, up)`: `gate = silu(gate) · up`.
    pub swiglu: fn(&mut [f32], &[f32]),
    /// `rope(head, angles, style)`: rotates one head in place.
    pub rope: fn(&mut [f32], &Angles, RopeStyle),
    /// `attention(task, out)`: some queries over one KV head, out (queries, head_dim).
    pub attention: fn(&Attention, &mut [f32]),
}

impl Kernels {
    /// All instruction sets of this CPU, best first.
    pub fn available() -> impl Iterator<Item = &'static Kernels> {
        #[cfg(target_arch = "x86_64")]
        let simd = [
            x86::avx512::Avx512::detect().map(|_| &x86::avx512::KERNELS),
            x86::avx2::Avx2::detect().map(|_| &x86::avx2::KERNELS),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let simd = [];
        simd.into_iter().flatten().chain([&scalar::KERNELS])
    }

    /// The best instruction set, or the one that the environment variable `DOVETAIL_ISA` names.
    pub fn choose() -> Result<&'static Kernels, String> {
        let wanted = std::env::var("DOVETAIL_ISA").ok();
        let names = || Kernels::available().map(|k| k.name).collect::<Vec<_>>().join(", ");
        Kernels::available().find(|k| wanted.as_deref().is_none_or(|w| w == k.name)).ok_or_else(
            || {
                let wanted = wanted.as_deref().unwrap_or_default();
                format!("DOVETAIL_ISA={wanted} is not available here; this CPU has: {}", names())
            },
        )
    }
}

/// Compiles all kernels for one instruction set and puts them into the table `KERNELS`.
///
/// `instantiate!(TYPE, NAME)` compiles them as they are; with a third argument, under these target
/// features: then the table may only be handed out where they were detected.
macro_rules! instantiate {
    ($isa:expr, $name:literal $(, $features:literal)?) => {
        /// The kernels of this instruction set; to be used only where it was detected.
        pub(in crate::cpu) static KERNELS: crate::cpu::Kernels = {
            use crate::cpu::{acts, attention, matmul, norm, rope};
            use crate::cpu::{ActRow, Angles, Attention, Forms, Packed, RopeStyle};
            crate::cpu::entries! {
                $isa, [$($features)?],
                matmul = matmul::matmul(
                    w: &Packed, first: usize, x: &[ActRow], out: &mut [f32], add: bool,
                    scratch: &mut [f32]);
                quantize = acts::quantize(x: &[f32], forms: Forms, out: &mut ActRow);
                rms_norm = norm::rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]);
                swiglu = norm::swiglu(gate: &mut [f32], up: &[f32]);
                rope = rope::rope(x: &mut [f32], angles: &Angles, style: RopeStyle);
                attention = attention::attention(task: &Attention, out: &mut [f32]);
            }
            crate::cpu::Kernels { name: $name, matmul, quantize, rms_norm, swiglu, rope, attention }
        };
    };
}
pub(crate) use instantiate;

/// Defines one entry point a kernel: see [`instantiate`].
macro_rules! entries {
    ($isa:expr, [],
        $($entry:ident = $module:ident :: $kernel:ident ( $($arg:ident : $t:ty),* );)*) => {
        $(fn $entry($($arg: $t),*) {
            $module::$kernel($isa, $($arg),*)
        })*
    };
    ($isa:expr, [$features:literal],
        $($entry:ident = $module:ident :: $kernel:ident ( $($arg:ident : $t:ty),* );)*) => {
        $(fn $entry($($arg: $t),*) {
            #[target_feature(enable = $features)]
            fn compiled($($arg: $t),*) {
                $module::$kernel($isa, $($arg),*)
            }
            // SAFETY: `Kernels::available` hands this table out only where the features were detected.
            unsafe { compiled($($arg),*) }
        })*
    };
}
pub(crate) use entries;
