//! ggml's dot products of one row of weights with one row of quantised activations.
//!
//! The default build has the plain-C ones, `cpu-backend` those for the machine's instruction set,
//! under the same names.

use crate::bindings::*;
use crate::{Error, TypeInfo, aligned, check_lengths, initialize, type_info, words_as_bytes};

type VecDot = unsafe extern "C" fn(
    n: i32,
    out: *mut f32,
    out_stride: usize,
    row: *const core::ffi::c_void,
    row_stride: usize,
    activations: *const core::ffi::c_void,
    activations_stride: usize,
    n_rows: i32,
);

/// Weight type, type of its activations, dot product.
const DOTS: &[(u32, u32, VecDot)] = &[
    (GGML_TYPE_Q1_0, GGML_TYPE_Q8_0, ggml_vec_dot_q1_0_q8_0),
    (GGML_TYPE_Q2_0, GGML_TYPE_Q8_0, ggml_vec_dot_q2_0_q8_0),
    (GGML_TYPE_Q4_0, GGML_TYPE_Q8_0, ggml_vec_dot_q4_0_q8_0),
    (GGML_TYPE_Q4_1, GGML_TYPE_Q8_1, ggml_vec_dot_q4_1_q8_1),
    (GGML_TYPE_Q5_0, GGML_TYPE_Q8_0, ggml_vec_dot_q5_0_q8_0),
    (GGML_TYPE_Q5_1, GGML_TYPE_Q8_1, ggml_vec_dot_q5_1_q8_1),
    (GGML_TYPE_Q8_0, GGML_TYPE_Q8_0, ggml_vec_dot_q8_0_q8_0),
    (GGML_TYPE_Q2_K, GGML_TYPE_Q8_K, ggml_vec_dot_q2_K_q8_K),
    (GGML_TYPE_Q3_K, GGML_TYPE_Q8_K, ggml_vec_dot_q3_K_q8_K),
    (GGML_TYPE_Q4_K, GGML_TYPE_Q8_K, ggml_vec_dot_q4_K_q8_K),
    (GGML_TYPE_Q5_K, GGML_TYPE_Q8_K, ggml_vec_dot_q5_K_q8_K),
    (GGML_TYPE_Q6_K, GGML_TYPE_Q8_K, ggml_vec_dot_q6_K_q8_K),
    (GGML_TYPE_TQ1_0, GGML_TYPE_Q8_K, ggml_vec_dot_tq1_0_q8_K),
    (GGML_TYPE_TQ2_0, GGML_TYPE_Q8_K, ggml_vec_dot_tq2_0_q8_K),
    (GGML_TYPE_IQ1_S, GGML_TYPE_Q8_K, ggml_vec_dot_iq1_s_q8_K),
    (GGML_TYPE_IQ1_M, GGML_TYPE_Q8_K, ggml_vec_dot_iq1_m_q8_K),
    (GGML_TYPE_IQ2_XXS, GGML_TYPE_Q8_K, ggml_vec_dot_iq2_xxs_q8_K),
    (GGML_TYPE_IQ2_XS, GGML_TYPE_Q8_K, ggml_vec_dot_iq2_xs_q8_K),
    (GGML_TYPE_IQ2_S, GGML_TYPE_Q8_K, ggml_vec_dot_iq2_s_q8_K),
    (GGML_TYPE_IQ3_XXS, GGML_TYPE_Q8_K, ggml_vec_dot_iq3_xxs_q8_K),
    (GGML_TYPE_IQ3_S, GGML_TYPE_Q8_K, ggml_vec_dot_iq3_s_q8_K),
    (GGML_TYPE_IQ4_NL, GGML_TYPE_Q8_0, ggml_vec_dot_iq4_nl_q8_0),
    (GGML_TYPE_IQ4_XS, GGML_TYPE_Q8_K, ggml_vec_dot_iq4_xs_q8_K),
    (GGML_TYPE_MXFP4, GGML_TYPE_Q8_0, ggml_vec_dot_mxfp4_q8_0),
    (GGML_TYPE_NVFP4, GGML_TYPE_Q8_0, ggml_vec_dot_nvfp4_q8_0),
];

/// The type (`Q8_0`, `Q8_1` or `Q8_K`) in which [`vec_dot`] wants the activations for weights of
/// type `id`; `None` where ggml has no integer dot product.
pub fn activation_type(id: u32) -> Option<u32> {
    DOTS.iter().find(|row| row.0 == id).map(|row| row.1)
}

/// The dot product of one row of weights of type `id` and as many activations, both whole blocks.
///
/// Bytes that are not aligned to eight are copied first: a bench should give it aligned ones.
pub fn vec_dot(id: u32, row: &[u8], activations: &[u8]) -> Result<f32, Error> {
    let &(_, activation_id, dot) = DOTS.iter().find(|row| row.0 == id).ok_or(Error::Type(id))?;
    let info = info(id)?;
    let n = row.len() / info.block_bytes * info.block_len;
    check_lengths(info, row.len(), n)?;
    check_lengths(self::info(activation_id)?, activations.len(), n)?;
    let length = i32::try_from(n).map_err(|_| Error::Length { id, bytes: row.len(), values: n })?;

    initialize();
    let (row, activations) = (aligned(row), aligned(activations));
    let mut out = 0f32;
    // SAFETY: both rows hold exactly `n` values in whole, aligned blocks, the tables are filled,
    // and for a single row ggml writes one float and reads no stride.
    unsafe {
        dot(length, &mut out, 0, row.as_ptr().cast(), 0, activations.as_ptr().cast(), 0, 1);
    }
    Ok(out)
}

/// Quantises activations as ggml does, to `id` = `Q8_0`, `Q8_1` or `Q8_K`.
pub fn quantize_activations(id: u32, x: &[f32]) -> Result<Vec<u8>, Error> {
    let quantize_row = match id {
        GGML_TYPE_Q8_0 => quantize_row_q8_0,
        GGML_TYPE_Q8_1 => quantize_row_q8_1,
        GGML_TYPE_Q8_K => quantize_row_q8_K,
        _ => return Err(Error::Type(id)),
    };
    let info = info(id)?;
    let bytes = x.len() / info.block_len * info.block_bytes;
    check_lengths(info, bytes, x.len())?;

    initialize();
    let mut out = vec![0u64; bytes.div_ceil(8)];
    // SAFETY: `x` is a whole number of blocks and `out` has room for as many, aligned.
    unsafe { quantize_row(x.as_ptr(), out.as_mut_ptr().cast(), x.len() as i64) };
    Ok(words_as_bytes(&out)[..bytes].to_vec())
}

fn info(id: u32) -> Result<TypeInfo, Error> {
    type_info(id).ok_or(Error::Type(id))
}
