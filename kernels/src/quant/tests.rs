//! Compares each row of [`TYPES`] with ggml; a new row is tested automatically.

use half::f16;
use proptest::prelude::*;

use super::*;

/// Types with a codebook, for which ggml makes tables before it quantises: that takes seconds in each process.
pub(crate) const CODEBOOKS: [u32; 7] = [16, 17, 18, 19, 21, 22, 29];

/// Number of blocks in each test row.
const BLOCKS: usize = 6;

/// A small random generator: the tests need spread, not quality, and the same bits everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 32) as u32
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }

    /// Approximately normal numbers.
    fn normal(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| (0..4).map(|_| self.next() as f32 / 4e9 - 0.5).sum()).collect()
    }
}

/// Rows to compare: normal weights quantised by ggml where that is fast, and random bytes with finite scales.
fn rows(info: &TypeInfo) -> Vec<Vec<u8>> {
    let mut random = Random(u64::from(info.id));
    let n = BLOCKS * info.block_len;
    let mut rows = Vec::new();
    if !CODEBOOKS.contains(&info.id) {
        rows.push(ggml_sys::quantize(info.id, &random.normal(n), n).unwrap());
    }
    while rows.len() < 20 {
        let row: Vec<u8> = (0..BLOCKS).flat_map(|_| sane_block(info, &mut random)).collect();
        rows.push(row);
    }
    rows
}

/// A random block with finite scales; one in thirty-two random half floats is not finite.
fn sane_block(info: &TypeInfo, random: &mut Random) -> Vec<u8> {
    loop {
        let block = random.bytes(info.block_bytes);
        let mut weights = vec![0f32; info.block_len];
        info.dequantize(&block, &mut weights);
        if weights.iter().all(|weight| weight.is_finite()) {
            return block;
        }
    }
}

fn block_types() -> impl Iterator<Item = (&'static TypeInfo, &'static BlockOps)> {
    TYPES.iter().filter_map(|info| match info.kind {
        Kind::Blocks(ops) => Some((info, ops)),
        _ => None,
    })
}

#[test]
fn the_table_agrees_with_ggml() {
    for info in TYPES {
        let theirs = ggml_sys::type_info(info.id).unwrap();
        let ours = (info.name, info.block_len, info.block_bytes);
        assert_eq!(ours, (theirs.name, theirs.block_len, theirs.block_bytes));
        assert_eq!(type_info(info.id).unwrap().name, info.name);
    }
    for (info, ops) in block_types() {
        let Format { block_len, sub_len, bits, .. } = ops.format;
        assert_eq!((block_len, ops.block_bytes), (info.block_len, info.block_bytes));
        assert!(block_len <= 256 && block_len / sub_len <= 16 && bits <= 8, "{}", info.name);
    }
}

#[test]
fn foreign_types_are_ggmls_and_no_others() {
    for id in 0..64 {
        let readable = ggml_sys::type_info(id).filter(|info| info.readable);
        assert_eq!(type_info(id).is_some(), readable.is_some(), "type {id}");
        let Some(info) = type_info(id) else { continue };
        let bytes = sane_block(&info, &mut Random(u64::from(id)));
        let (mut ours, mut theirs) = (vec![0f32; info.block_len], vec![0f32; info.block_len]);
        info.dequantize(&bytes, &mut ours);
        ggml_sys::dequantize(id, &bytes, &mut theirs).unwrap();
        assert_eq!(ours, theirs, "{}", info.name);
    }
}

#[test]
fn weights_have_the_bits_of_ggml() {
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    for info in TYPES {
        for row in rows(info) {
            let mut ours = vec![0f32; BLOCKS * info.block_len];
            let mut theirs = ours.clone();
            info.dequantize(&row, &mut ours);
            ggml_sys::dequantize(info.id, &row, &mut theirs).unwrap();
            assert_eq!(bits(&ours), bits(&theirs), "{}", info.name);
        }
    }
}

#[test]
fn codes_keep_their_bounds() {
    for (info, ops) in block_types() {
        let Format { block_len, sub_len, bits, scaled, min, .. } = ops.format;
        let mut codes = Codes::default();
        for block in rows(info).iter().flat_map(|row| row.chunks(ops.block_bytes)) {
            (ops.codes)(block, &mut codes);
            let subs = block_len / sub_len;
            assert!(codes.code[..block_len].iter().all(|&code| u32::from(code) < 1 << bits));
            assert!(scaled || codes.scale[..subs].iter().all(|&scale| scale == 1));
            assert!(min || codes.min[..subs].iter().all(|&min| min == 0));
            assert!(min || codes.m == f16::ZERO, "{}", info.name);
        }
    }
}

#[test]
fn dot_agrees_with_ggml() {
    for (info, ops) in block_types() {
        let (mut random, mut compared) = (Random(99), 0);
        for row in rows(info) {
            let q: Vec<i8> = (0..BLOCKS * info.block_len)
                .map(|_| (random.next() % 255) as i32 - 127)
                .map(|q| q as i8)
                .collect();
            // Powers of two are exact as half floats, so ggml has the same activations.
            let d: Vec<f32> =
                (0..BLOCKS).map(|_| 0.5f32.powi((random.next() % 12) as i32)).collect();
            let x = QuantizedRow { q: &q, d: &d };
            let ours = dot(ops, &row, &x);
            let theirs = ggml_sys::vec_dot(info.id, &row, &activations(info.id, &x)).unwrap();

            let mut weights = vec![0f32; q.len()];
            info.dequantize(&row, &mut weights);
            let terms = weights.iter().zip(&q).zip(d.iter().flat_map(|&d| vec![d; info.block_len]));
            let size: f32 = terms.map(|((w, &q), d)| (w * f32::from(q) * d).abs()).sum();
            // Minima are subtracted from products of similar size, so the rounding error is relative to both.
            // Scales that are exponents may be too large for it.
            if size.is_finite() {
                let close = (ours - theirs).abs() <= 1e-5 * size;
                assert!(close, "{}: {ours} {theirs} {size}", info.name);
                compared += 1;
            }
        }
        assert!(compared >= 5, "{}: only {compared} rows were compared", info.name);
    }
}

#[test]
fn exponents_are_those_of_the_standard() {
    let mxfp4 = type_info(39).unwrap();
    // The code 2 is one.
    let ones = |exponent: u8| {
        let (mut block, mut weights) = ([0x22; 17], [0f32; 32]);
        block[0] = exponent;
        mxfp4.dequantize(&block, &mut weights);
        weights
    };
    for exponent in 0..=254 {
        assert_eq!(ones(exponent), [2f64.powi(i32::from(exponent) - 127) as f32; 32]);
    }
    assert_eq!(ones(255), [f32::INFINITY; 32]);
}

/// The bytes of ggml's activation blocks.
fn activations(id: u32, x: &QuantizedRow) -> Vec<u8> {
    let kind = ggml_sys::activation_type(id).unwrap();
    let mut bytes = Vec::new();
    for (q, &d) in x.q.chunks(x.q.len() / x.d.len()).zip(x.d) {
        let sum = |q: &[i8]| q.iter().map(|&q| i32::from(q)).sum::<i32>();
        let exact = |value: f32| {
            assert_eq!(f16::from_f32(value).to_f32(), value, "a half float holds it");
            f16::from_f32(value).to_le_bytes()
        };
        match kind {
            8 => bytes.extend(exact(d)),
            9 => bytes.extend([exact(d), exact(d * sum(q) as f32)].as_flattened()),
            15 => bytes.extend(d.to_le_bytes()),
            _ => panic!("ggml multiplies type {id} with type {kind}: unknown to this test"),
        }
        bytes.extend(q.iter().map(|&q| q as u8));
        if kind == 15 {
            bytes.extend(q.chunks(16).flat_map(|q| (sum(q) as i16).to_le_bytes()));
        }
    }
    bytes
}

#[test]
fn row_bytes_counts_whole_blocks() {
    let q4_k = type_info(12).unwrap();
    assert_eq!(q4_k.row_bytes(0), Some(0));
    assert_eq!(q4_k.row_bytes(512), Some(288));
    assert_eq!(q4_k.row_bytes(511), None);
    assert_eq!(type_info(0).unwrap().row_bytes(usize::MAX), None);
}

proptest! {
    #[test]
    fn no_bytes_make_dequantize_panic(
        info in prop::sample::select((0..64).filter_map(type_info).collect::<Vec<_>>()),
        bytes in prop::collection::vec(any::<u8>(), 2 * 512 + 1),
    ) {
        // An odd address: a tensor of a damaged file may be at any address.
        let bytes = &bytes[1..][..2 * info.block_bytes];
        info.dequantize(bytes, &mut vec![0f32; 2 * info.block_len]);
    }

    #[test]
    fn no_bytes_make_dot_panic(
        i in 0..block_types().count(),
        bytes in prop::collection::vec(any::<u8>(), 512),
        q in prop::collection::vec(any::<i8>(), 256),
    ) {
        let (info, ops) = block_types().nth(i).unwrap();
        dot(ops, &bytes[..info.block_bytes], &QuantizedRow { q: &q[..info.block_len], d: &[1.0] });
    }
}
