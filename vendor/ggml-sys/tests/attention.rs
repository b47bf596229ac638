//! The rival attends to what we think it attends to.
#![cfg(feature = "cpu-backend")]

use ggml_sys::attention::{FlashAttention, Problem};
use ggml_sys::{dequantize, quantize};

const HEAD_DIM: usize = 64;
const POSITIONS: usize = 70;
const ROWS: usize = 3;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
/// −∞ as a half float.
const HIDDEN: u16 = 0xfc00;

fn wave(n: usize, step: f32) -> Vec<f32> {
    (0..n).map(|i| (i as f32 * step).sin()).collect()
}

#[test]
fn results_are_softmax_of_scores_times_values() {
    let queries = wave(HEADS * ROWS * HEAD_DIM, 0.37);
    // Row r sees one position less than row r + 1.
    let mut mask = vec![0u16; ROWS * POSITIONS];
    for (row, mask) in mask.chunks_mut(POSITIONS).enumerate() {
        mask[POSITIONS - ROWS + row + 1..].fill(HIDDEN);
    }
    for id in [1, 8] {
        let cells = [0.11, 0.23].map(|step| {
            let bytes =
                quantize(id, &wave(KV_HEADS * POSITIONS * HEAD_DIM, step), HEAD_DIM).unwrap();
            let mut values = vec![0f32; KV_HEADS * POSITIONS * HEAD_DIM];
            dequantize(id, &bytes, &mut values).unwrap();
            (bytes, values)
        });
        let [(key_bytes, keys), (value_bytes, values)] = &cells;
        let problem = Problem {
            id,
            keys: key_bytes,
            values: value_bytes,
            mask: &mask,
            heads: HEADS,
            kv_heads: KV_HEADS,
            head_dim: HEAD_DIM,
            rows: ROWS,
            positions: POSITIONS,
            threads: 2,
        };
        let mut attention = FlashAttention::new(problem).unwrap();
        let mut out = vec![0f32; queries.len()];
        attention.set_queries(&queries);
        attention.compute();
        attention.output(&mut out);
        for (i, out) in out.chunks(HEAD_DIM).enumerate() {
            let (row, head) = (i / HEADS, i % HEADS);
            let query = &queries[(head * ROWS + row) * HEAD_DIM..][..HEAD_DIM];
            let base = head / (HEADS / KV_HEADS) * POSITIONS;
            let seen = base..base + POSITIONS - ROWS + row + 1;
            let at = |cells: &[f32], position: usize, d: usize| cells[position * HEAD_DIM + d];
            let weights: Vec<f32> = (seen.clone())
                .map(|p| {
                    query.iter().enumerate().map(|(d, q)| q * at(keys, p, d)).sum::<f32>().exp()
                })
                .collect();
            let total: f32 = weights.iter().sum();
            for (d, out) in out.iter().enumerate() {
                let sum: f32 = seen.clone().zip(&weights).map(|(p, w)| w * at(values, p, d)).sum();
                assert!((out - sum / total).abs() < 0.02, "type {id}: {out}, not {}", sum / total);
            }
        }
    }
}

#[test]
fn wrong_sizes_are_refused() {
    let (cells, mask) = ([0u8; 64], [0u16; 1]);
    let problem = Problem {
        id: 1,
        keys: &cells,
        values: &cells,
        mask: &mask,
        heads: 2,
        kv_heads: 1,
        head_dim: 32,
        rows: 1,
        positions: 1,
        threads: 1,
    };
    assert!(FlashAttention::new(problem).is_ok());
    for wrong in [
        Problem { positions: 2, ..problem },
        Problem { head_dim: 16, ..problem },
        Problem { heads: 0, ..problem },
        Problem { kv_heads: 2, keys: &[0; 128], values: &[0; 128], heads: 3, ..problem },
        Problem { mask: &[], ..problem },
        Problem { values: &[], ..problem },
        Problem { threads: 0, ..problem },
        Problem { id: 4, ..problem },
    ] {
        assert!(FlashAttention::new(wrong).is_err(), "{wrong:?}");
    }
}
