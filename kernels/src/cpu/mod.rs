//! Products on the CPU.
//!
//! Each algorithm is written once, over a register ([`lanes::Simd`]) or over 16 lanes made of
//! registers ([`lanes::Lanes`]); an instruction set is one file that implements the register.
//! [`Kernels`] is a table of entry points chosen once, when a model is loaded, and passed down.
//!
//! To add an instruction set: write a file that implements `Simd` and calls `instantiate!`, add a line to
//! [`Kernels::available`], best first, and add its name to `tests/common/mod.rs`. The tests compare every kernel of
//! every entry with [`order`], by bits.

pub mod activations;
#[cfg(target_arch = "aarch64")]
pub mod arm;
pub mod attention;
mod blocks;
mod gguf_matrix;
mod interleave;
pub mod lanes;
mod matmul;
mod norm;
pub mod order;
pub mod pack;
mod peak;
pub mod rope;
pub mod scalar;
pub mod thread_pool;
mod transpose;
mod weight_matrix;
#[cfg(target_arch = "x86_64")]
pub mod x86;

pub use activations::{ActivationFormats, ActivationRows, Activations};
pub use attention::{Attention, CacheType};
pub use gguf_matrix::GgufMatrix;
pub use lanes::LANES;
pub use matmul::{chunk_len, groups_per_chunk};
pub use pack::{LAYOUT_VERSION, Line};
use pack::{PackedMatrix, Shape};
pub use rope::{Angles, RopeStyle};
pub use thread_pool::{ChunkedSlice, ThreadPool};
pub use weight_matrix::{ProductScratch, WeightMatrix};

/// `matmul(w, first, x, out, add, scratch)`: multiplies groups `first..` of `w` by the rows `x`, as many groups as
/// `out` has tiles, (groups, rows, 16); with `add` it adds to `out`. `scratch` has [`pack::Shape::scratch_len`] floats.
type Matmul = fn(&PackedMatrix, usize, ActivationRows, &mut [f32], bool, &mut [f32]);

/// `interleave(shape, rows, out)`: packs up to 16 rows into one group.
type Interleave = fn(&Shape, &[u8], &mut [u8]);

/// The kernels of one instruction set.
pub struct Kernels {
    /// Name as in `DOVETAIL_ISA`.
    pub name: &'static str,
    /// The product of packed weights and rows of activations: [`Kernels::multiply`] calls it.
    matmul: Matmul,
    /// Packs native rows: [`Kernels::multiply`] and the packing of whole matrices call it.
    interleave: Interleave,
    /// `quantize(x, formats, out)`: one row of activations in the requested formats, see [`Activations`].
    pub quantize: fn(&[f32], ActivationFormats, &mut [Line]),
    /// `rms_norm(x, weight, eps, out)`: RMSNorm of one row.
    pub rms_norm: fn(&[f32], &[f32], f32, &mut [f32]),
    /// `layer_norm(x, weight, eps, out)`: LayerNorm of one row, without a bias.
    pub layer_norm: fn(&[f32], &[f32], f32, &mut [f32]),
    /// `swiglu(gate, up)`: `gate = silu(gate) · up`.
    pub swiglu: fn(&mut [f32], &[f32]),
    /// `geglu(gate, up)`: `gate = gelu(gate) · up`, GELU in its tanh form.
    pub geglu: fn(&mut [f32], &[f32]),
    /// `soft_cap(x, cap)`: `x = cap · tanh(x / cap)`.
    pub soft_cap: fn(&mut [f32], f32),
    /// `scale(x, factor)`: `x = factor · x`.
    pub scale: fn(&mut [f32], f32),
    /// `add_scaled(sum, x, factor)`: `sum = sum + factor · x`.
    pub add_scaled: fn(&mut [f32], &[f32], f32),
    /// `add_bias(tiles, n_rows, bias)`: adds (groups, 16) to every row of (groups, n_rows, 16).
    pub add_bias: fn(&mut [f32], usize, &[f32]),
    /// `gate(gate, a, b)`: `a = z · a + (1 − z) · b` with `z = 1 / (1 + exp(−gate))`.
    pub gate: fn(&[f32], &mut [f32], &[f32]),
    /// `sum_exp(x, largest)`: `Σ exp(x − largest)`.
    pub sum_exp: fn(&[f32], f32) -> f32,
    /// `rope(head, angles, style)`: rotates one head in place.
    pub rope: fn(&mut [f32], &Angles, RopeStyle),
    /// `attention(task, scratch, parts)`: attention of some query rows over one chunk of one KV head.
    pub attention: fn(&Attention, &mut attention::Scratch, &mut [f32]),
    /// `combine(parts, out)`: combines the parts of one row to its result, (head_dim).
    pub combine: fn(&attention::Parts, &mut [f32]),
    /// `peak_read(lines)`: reads as fast as a product could; for benchmarks.
    pub peak_read: fn(&[Line]),
    /// `peak_dot(rounds)`: multiplies as fast as a product could, and returns the number of operations; for benchmarks.
    pub peak_dot: fn(usize) -> u64,
    /// The same of the tile unit, where products of many rows use one.
    pub peak_tiles: Option<fn(usize) -> u64>,
}

impl Kernels {
    /// A copy in a constant context.
    const fn copy(other: &Kernels) -> Kernels {
        Kernels { ..*other }
    }

    /// All instruction sets of this CPU, best first.
    pub fn available() -> impl Iterator<Item = &'static Kernels> {
        #[cfg(target_arch = "x86_64")]
        let simd = [
            x86::amx::detected().then_some(&x86::amx::KERNELS),
            x86::avx512::Avx512::detect().map(|_| &x86::avx512::KERNELS),
            x86::avx2::Avx2::<true>::detect().map(|_| &x86::avx2::vnni::KERNELS),
            x86::avx2::Avx2::<false>::detect().map(|_| &x86::avx2::plain::KERNELS),
        ];
        #[cfg(target_arch = "aarch64")]
        let simd = [
            arm::i8mm::detected().then_some(&arm::i8mm::KERNELS),
            arm::neon::Neon::<true>::detect().map(|_| &arm::neon::dotprod::KERNELS),
            arm::neon::Neon::<false>::detect().map(|_| &arm::neon::plain::KERNELS),
        ];
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let simd: [Option<&Kernels>; 0] = [];
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

/// Compiles all kernels for one instruction set into the table `KERNELS`.
///
/// `instantiate!(TYPE, NAME)` compiles them without target features. A third argument names target features; the table
/// may then be used only where they were detected.
macro_rules! instantiate {
    ($isa:expr, $name:literal $(, $features:literal)?) => {
        /// The kernels of this instruction set; for use only where it was detected.
        pub(in crate::cpu) static KERNELS: crate::cpu::Kernels = {
            use crate::cpu::blocks::{BlockKernel, with_block_kernel};
            use crate::cpu::matmul::{self, Groups};
            use crate::cpu::pack::{Layout, PackedMatrix, Shape, Units};
            use crate::cpu::{ActivationRows, Angles, Attention, ActivationFormats, Line, RopeStyle};
            use crate::cpu::{activations, attention, norm, peak, rope, transpose};
            crate::cpu::entries! {
                $isa, [$($features)?],
                blocks<B: BlockKernel> = matmul::blocks(
                    kernel: B, groups: &Groups, units: Units, out: &mut [f32]);
                floats = matmul::floats(groups: &Groups, out: &mut [f32], scratch: &mut [f32]);
                interleave = transpose::interleave(shape: &Shape, rows: &[u8], out: &mut [u8]);
                quantize = activations::quantize(x: &[f32], formats: ActivationFormats, out: &mut [Line]);
                rms_norm = norm::rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]);
                layer_norm = norm::layer_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]);
                swiglu = norm::swiglu(gate: &mut [f32], up: &[f32]);
                geglu = norm::geglu(gate: &mut [f32], up: &[f32]);
                soft_cap = norm::soft_cap(x: &mut [f32], cap: f32);
                scale = norm::scale(x: &mut [f32], factor: f32);
                add_scaled = norm::add_scaled(sum: &mut [f32], x: &[f32], factor: f32);
                add_bias = norm::add_bias(tiles: &mut [f32], n_rows: usize, bias: &[f32]);
                gate = norm::gate(gate: &[f32], a: &mut [f32], b: &[f32]);
                sum_exp = norm::sum_exp(x: &[f32], largest: f32) -> f32;
                rope = rope::rope(x: &mut [f32], angles: &Angles, style: RopeStyle);
                attention = attention::attention(
                    task: &Attention, scratch: &mut attention::Scratch, parts: &mut [f32]);
                combine = attention::combine(parts: &attention::Parts, out: &mut [f32]);
                peak_read = peak::read(lines: &[Line]);
                peak_dot = peak::dot(rounds: usize) -> u64;
            }
            fn matmul(
                w: &PackedMatrix,
                first: usize,
                x: ActivationRows,
                out: &mut [f32],
                add: bool,
                scratch: &mut [f32],
            ) {
                let groups = Groups { w, first, x, add };
                let Layout::Blocks(format) = w.shape.layout else {
                    return floats(&groups, out, scratch);
                };
                let units = Units::new(&format, w.shape.n_cols);
                with_block_kernel!(format, kernel => blocks(kernel, &groups, units, out))
            }
            crate::cpu::Kernels {
                name: $name, matmul, interleave, quantize, rms_norm, layer_norm, swiglu, geglu, soft_cap, scale, add_scaled, add_bias,
                gate, sum_exp, rope, attention, combine, peak_read, peak_dot,
                peak_tiles: None,
            }
        };
    };
}
pub(crate) use instantiate;

/// Defines one entry point for each kernel: see [`instantiate`].
macro_rules! entries {
    ($isa:expr, [],
        $($entry:ident $(<$b:ident: $bound:ident>)? = $module:ident :: $kernel:ident
            ( $($arg:ident : $t:ty),* ) $(-> $r:ty)?;)*) => {
        $(fn $entry$(<$b: $bound>)?($($arg: $t),*) $(-> $r)? {
            $module::$kernel($isa, $($arg),*)
        })*
    };
    ($isa:expr, [$features:literal],
        $($entry:ident $(<$b:ident: $bound:ident>)? = $module:ident :: $kernel:ident
            ( $($arg:ident : $t:ty),* ) $(-> $r:ty)?;)*) => {
        $(fn $entry$(<$b: $bound>)?($($arg: $t),*) $(-> $r)? {
            #[target_feature(enable = $features)]
            fn compiled$(<$b: $bound>)?($($arg: $t),*) $(-> $r)? {
                $module::$kernel($isa, $($arg),*)
            }
            // SAFETY: `Kernels::available` hands this table out only where the features were detected.
            unsafe { compiled($($arg),*) }
        })*
    };
}
pub(crate) use entries;
