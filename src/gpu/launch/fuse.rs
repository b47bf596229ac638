//! The input of the fusion: normed embeddings and features.

use super::{Buffer, Launch, LaunchMemory, MAX_ROWS, Rows};
use crate::gpu::launch::matmul::HalfRows;
use bytemuck::{Pod, Zeroable};
use half::f16;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Args {
    rows: u64,
    table: u64,
    sent: u64,
    feature: u64,
    hidden: u64,
    token_norm: u64,
    feature_norm: u64,
    out_token: u64,
    out_feature: u64,
    width: u32,
    stride: u32,
    eps: f32,
    unused: u32,
}

/// Where embeddings and features come from.
pub struct Sources<'a> {
    /// Embeddings of the draft vocabulary: (draft tokens, width), half floats.
    pub table: &'a Buffer<f16>,
    /// Embeddings of entries: (MAX_ROWS, width), half floats.
    pub sent: &'a Buffer<f16>,
    /// Features of entries: (MAX_ROWS, width).
    pub feature: &'a Buffer<f32>,
    /// Hidden states that the last pass left: (MAX_ROWS, width).
    pub hidden: &'a Buffer<f32>,
    /// RMSNorm weights of feature and embedding if they are normed: (width) each.
    pub norms: Option<&'a [Buffer<f32>; 2]>,
    pub width: usize,
    pub eps: f32,
}

/// Writes the embeddings to `out`, and the features to its columns from `feature_at` on.
///
/// # Panics
/// If lengths do not fit each other.
pub fn fuse(
    max_rows: usize,
    rows: &Buffer<Rows>,
    from: Sources,
    out: &HalfRows,
    feature_at: usize,
) -> Launch {
    let Sources { table, sent, feature, hidden, norms, width, eps } = from;
    assert!(max_rows <= MAX_ROWS && rows.len() == 1 && table.len() >= width, "rows");
    assert!(sent.len() >= max_rows * width && feature.len() >= max_rows * width, "entries");
    assert!(hidden.len() >= max_rows * width, "hidden states");
    assert!(
        feature_at.is_multiple_of(32) && feature_at >= width && out.stride >= feature_at + width,
        "side by side"
    );
    assert!(out.buffer.len() >= max_rows * out.stride, "rows");
    assert!(norms.is_none_or(|norms| norms.iter().all(|norm| norm.len() == width)), "norms");
    let mut memory = LaunchMemory::default();
    let [feature_norm, token_norm] = [0, 1].map(|i| memory.optional(norms.map(|norms| &norms[i])));
    let args = Args {
        rows: memory.buffer(rows),
        table: memory.buffer(table),
        sent: memory.buffer(sent),
        feature: memory.buffer(feature),
        hidden: memory.buffer(hidden),
        token_norm,
        feature_norm,
        out_token: memory.buffer(&out.buffer),
        out_feature: memory.buffer(&out.columns(feature_at).buffer),
        width: width as u32,
        stride: out.stride as u32,
        eps,
        unused: 0,
    };
    // SAFETY: lengths were checked above.
    unsafe { Launch::new("fuse", [max_rows as u32, 1], 256, &args, memory) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::launch::NONE;
    use crate::gpu::tests::{devices, noise, run};

    const EPS: f32 = 1e-5;

    fn rms_norm(x: &[f32], weights: &[f32]) -> Vec<f32> {
        let mean = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / x.len() as f64;
        let factor = 1.0 / (mean + f64::from(EPS)).sqrt();
        x.iter().zip(weights).map(|(x, w)| (f64::from(*x) * factor) as f32 * w).collect()
    }

    #[test]
    fn embeddings_and_features_stand_side_by_side() {
        for mut device in devices() {
            for (width, n) in [(32, 1), (64, 8), (96, 13), (576, 33), (2048, 64)] {
                for normed in [false, true] {
                    for entries in [false, true] {
                        check(&mut *device, width, n, normed, entries);
                    }
                }
            }
        }
    }

    fn check(
        device: &mut dyn crate::gpu::Device,
        width: usize,
        n: usize,
        normed: bool,
        entries: bool,
    ) {
        const VOCABULARY: usize = 50;
        let mut draw = noise((width + n) as u32);
        let mut floats = |n: usize| (0..n).map(|_| draw()).collect::<Vec<f32>>();
        let half = |x: &[f32]| x.iter().map(|x| f16::from_f32(*x)).collect::<Vec<_>>();
        let table = half(&floats(VOCABULARY * width));
        let sent = half(&floats(MAX_ROWS * width));
        let (feature, hidden) = (floats(MAX_ROWS * width), floats(MAX_ROWS * width));
        let norms = [floats(width), floats(width)];
        let mut rows: Rows = Zeroable::zeroed();
        rows.n = n as u32;
        for r in 0..n {
            rows.token[r] = if entries { NONE } else { (r * 7 % VOCABULARY) as u32 };
            rows.parent[r] = if entries { NONE } else { (r * 5 % n) as u32 };
        }
        let feature_at = width.next_multiple_of(128);
        let stride = 2 * feature_at;
        let untouched = vec![f16::from_f32(7.0); MAX_ROWS * stride];
        let out = HalfRows { buffer: Buffer::from_slice(device, &untouched).unwrap(), stride };
        let [feature_norm, token_norm] = &norms;
        let on =
            |device: &mut dyn crate::gpu::Device, x: &[f32]| Buffer::from_slice(device, x).unwrap();
        let norms_on = normed.then(|| [on(device, feature_norm), on(device, token_norm)]);
        let from = Sources {
            table: &Buffer::from_slice(device, &table).unwrap(),
            sent: &Buffer::from_slice(device, &sent).unwrap(),
            feature: &on(device, &feature),
            hidden: &on(device, &hidden),
            norms: norms_on.as_ref(),
            width,
            eps: EPS,
        };
        let rows_on = Buffer::from_slice(device, &[rows]).unwrap();
        run(device, &[fuse(MAX_ROWS, &rows_on, from, &out, feature_at)]);
        let found = out.buffer.read(device).unwrap();
        for r in 0..n {
            let row = |of: &[f16], at: usize| -> Vec<f32> {
                of[at * width..][..width].iter().map(|x| x.to_f32()).collect()
            };
            let (e, f) = match entries {
                true => (row(&sent, r), &feature[r * width..]),
                false => (
                    row(&table, rows.token[r] as usize),
                    &hidden[rows.parent[r] as usize * width..],
                ),
            };
            let (mut e, mut f) = (e, f[..width].to_vec());
            if normed {
                (e, f) = (rms_norm(&e, token_norm), rms_norm(&f, feature_norm));
            }
            let all = out.row(&found, r, stride);
            for (at, expected) in [(0, e), (feature_at, f)] {
                for (x, y) in all[at..].iter().zip(&expected) {
                    let error = (x.to_f32() - y).abs();
                    // Rounded to half floats, after sums in another order.
                    assert!(error <= y.abs() / 1024.0 + 1e-7, "{width}, row {r}: {x}, not {y}");
                }
            }
            let between = all[width..feature_at].iter().chain(&all[feature_at + width..]);
            assert!(between.into_iter().all(|x| x.to_f32() == 7.0), "columns that do not count");
        }
        let behind = (n..MAX_ROWS).flat_map(|r| out.row(&found, r, stride));
        assert!(behind.into_iter().all(|x| x.to_f32() == 7.0), "rows behind the last are written");
    }
}
