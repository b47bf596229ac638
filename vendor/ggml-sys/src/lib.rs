//! GGML, compiled from a pinned registry crate: the oracle of our tests, the reader of the tensor
//! types that have no file of our own in `kernels/src/quant`, and the rival in our benches.
//!
//! The default build is small: types, quantise, dequantise and plain-C dot products, in portable C
//! without fused multiply-add, so that a weight has the same bits on every machine. The feature
//! `cpu-backend` adds ggml's CPU backend, compiled for the machine at hand; the weights keep their
//! bits. `bindings` declares what both builds define; what only the backend defines (`ggml_cpu_*`,
//! `ggml_backend_*`, graphs) fails to link without the feature.
//!
//! To move to another ggml: change the version in `Cargo.toml`, run `ggml-bindings`, and compare
//! the lists of files in `build.rs` with ggml's own build files.

mod dot;

#[cfg(feature = "cpu-backend")]
pub mod attention;
#[cfg(feature = "cpu-backend")]
mod graph;
#[cfg(feature = "cpu-backend")]
pub mod matmul;

/// The C functions and types themselves, as bindgen sees them.
#[allow(missing_docs, non_camel_case_types, non_upper_case_globals)]
#[allow(clippy::all, clippy::undocumented_unsafe_blocks)]
#[rustfmt::skip]
pub mod bindings;

pub use dot::{activation_type, quantize_activations, vec_dot};

use std::ffi::CStr;
use std::sync::OnceLock;
use std::{fmt, ptr, slice};

/// A tensor type as ggml knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeInfo {
    /// Number of the type in a GGUF file.
    pub id: u32,
    /// ggml's name, for example `q4_K`.
    pub name: &'static str,
    /// Weights in one block; 1 for plain numbers.
    pub block_len: usize,
    /// Bytes of one block.
    pub block_bytes: usize,
    /// Whether a block holds codes and scales rather than plain numbers.
    pub quantized: bool,
    /// Whether [`dequantize`] and [`quantize`] know the type: not so for integers, `f64`, and the
    /// types that only ever hold activations.
    pub readable: bool,
}

/// Why ggml was not asked: the answer to a wrong length would be an abort of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// ggml has no such operation for the type.
    Type(u32),
    /// The lengths do not fit each other or are no whole number of blocks.
    Length {
        /// The type asked for.
        id: u32,
        /// Bytes given.
        bytes: usize,
        /// Values given.
        values: usize,
    },
    /// A value to quantise is infinite or not a number.
    NotFinite(u32),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Type(id) => write!(f, "ggml cannot do this with tensor type {id}"),
            Self::Length { id, bytes, values } => {
                write!(f, "{bytes} bytes of tensor type {id} do not hold {values} values")
            }
            Self::NotFinite(id) => {
                write!(f, "infinite values cannot be quantised to tensor type {id}")
            }
        }
    }
}

impl std::error::Error for Error {}

/// What ggml knows of a type; `None` for numbers that it never used or no longer reads.
pub fn type_info(id: u32) -> Option<TypeInfo> {
    let traits = traits(id)?;
    // SAFETY: a string literal of ggml, or null for the gaps in its table.
    let name =
        (!traits.type_name.is_null()).then(|| unsafe { CStr::from_ptr(traits.type_name) })?;
    let block_len = usize::try_from(traits.blck_size).ok().filter(|&len| len > 0)?;
    Some(TypeInfo {
        id,
        name: name.to_str().ok()?,
        block_len,
        block_bytes: traits.type_size,
        quantized: traits.is_quantized,
        readable: traits.to_float.is_some() || id == bindings::GGML_TYPE_F32,
    })
}

/// Writes the values of `bytes`, whole blocks of type `id`, to `out`.
///
/// Any bytes are fine: ggml's code books are as large as its indices. Bytes aligned to eight are
/// read where they lie, others are copied first.
pub fn dequantize(id: u32, bytes: &[u8], out: &mut [f32]) -> Result<(), Error> {
    check_lengths(readable(id)?, bytes.len(), out.len())?;
    if id == bindings::GGML_TYPE_F32 {
        for (value, bytes) in out.iter_mut().zip(bytes.chunks_exact(4)) {
            *value = f32::from_le_bytes(bytes.try_into().expect("chunks of four"));
        }
        return Ok(());
    }
    let to_float = traits(id).and_then(|traits| traits.to_float).ok_or(Error::Type(id))?;
    let aligned = aligned(bytes);
    // SAFETY: `bytes` holds exactly `out.len()` values, a whole number of blocks, and is aligned
    // for every block; ggml reads and writes nothing else and keeps no pointer.
    unsafe { to_float(aligned.as_ptr().cast(), out.as_mut_ptr(), out.len() as i64) };
    Ok(())
}

/// Quantises rows of `n_per_row` finite values each to type `id`.
///
/// Types that insist on an importance matrix get a uniform one.
pub fn quantize(id: u32, source: &[f32], n_per_row: usize) -> Result<Vec<u8>, Error> {
    let info = readable(id)?;
    let wrong = Error::Length { id, bytes: 0, values: source.len() };
    if n_per_row == 0
        || !n_per_row.is_multiple_of(info.block_len)
        || !source.len().is_multiple_of(n_per_row)
    {
        return Err(wrong);
    }
    if !source.iter().all(|value| value.is_finite()) {
        return Err(Error::NotFinite(id));
    }
    let mut out = vec![0u64; (source.len() / info.block_len * info.block_bytes).div_ceil(8)];
    // SAFETY: a pure function of a number that `readable` has found in ggml's table.
    let wants_importance = unsafe { bindings::ggml_quantize_requires_imatrix(id) };
    let importance = wants_importance.then(|| vec![1f32; n_per_row]);
    // SAFETY: the source holds `rows · n_per_row` values and the destination the bytes of as many
    // blocks; the importance matrix has one value a column or is null where ggml allows that.
    let written = unsafe {
        bindings::ggml_quantize_chunk(
            id,
            source.as_ptr(),
            out.as_mut_ptr().cast(),
            0,
            (source.len() / n_per_row) as i64,
            n_per_row as i64,
            importance.as_ref().map_or(ptr::null(), Vec::as_ptr),
        )
    };
    Ok(words_as_bytes(&out)[..written].to_vec())
}

/// Fills ggml's conversion tables, once: dot products read them, dequantisation does not.
fn initialize() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        // SAFETY: `OnceLock` lets one thread in and makes the others wait for its writes.
        #[cfg(feature = "cpu-backend")]
        unsafe {
            bindings::ggml_cpu_init();
        }
        #[cfg(not(feature = "cpu-backend"))]
        {
            unsafe extern "C" {
                fn dovetail_ggml_fill_tables();
            }
            // SAFETY: as above; the function of `shim.c` takes and returns nothing.
            unsafe { dovetail_ggml_fill_tables() };
        }
    });
}

fn traits(id: u32) -> Option<&'static bindings::ggml_type_traits> {
    // SAFETY: the number is inside ggml's table, a constant that lives as long as the program.
    (id < bindings::GGML_TYPE_COUNT).then(|| unsafe { &*bindings::ggml_get_type_traits(id) })
}

fn readable(id: u32) -> Result<TypeInfo, Error> {
    type_info(id).filter(|info| info.readable).ok_or(Error::Type(id))
}

fn check_lengths(info: TypeInfo, bytes: usize, values: usize) -> Result<(), Error> {
    let blocks = values / info.block_len;
    let fits =
        blocks * info.block_len == values && blocks.checked_mul(info.block_bytes) == Some(bytes);
    fits.then_some(()).ok_or(Error::Length { id: info.id, bytes, values })
}

/// Bytes at an address that every block type of ggml may be read from.
enum Aligned<'a> {
    Borrowed(&'a [u8]),
    Copied(Vec<u64>),
}

impl Aligned<'_> {
    fn as_ptr(&self) -> *const u8 {
        match self {
            Aligned::Borrowed(bytes) => bytes.as_ptr(),
            Aligned::Copied(words) => words.as_ptr().cast(),
        }
    }
}

/// The same bytes, copied only where their address is no multiple of eight.
fn aligned(bytes: &[u8]) -> Aligned<'_> {
    if bytes.as_ptr().cast::<u64>().is_aligned() {
        return Aligned::Borrowed(bytes);
    }
    let mut words = vec![0u64; bytes.len().div_ceil(8)];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks(8)) {
        let mut eight = [0; 8];
        eight[..bytes.len()].copy_from_slice(bytes);
        *word = u64::from_ne_bytes(eight);
    }
    Aligned::Copied(words)
}

fn words_as_bytes(words: &[u64]) -> &[u8] {
    // SAFETY: the same memory; bytes need no alignment and every bit pattern is one.
    unsafe { slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
}
