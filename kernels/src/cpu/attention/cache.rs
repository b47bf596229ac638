//! What the bytes of cached keys and values mean.
//!
//! # Layout
//! Both lie in *pieces* of whole positions: keys in blocks of 16, so that sixteen positions are scored
//! side by side, values in chunks of [`CHUNK`] cut into strips of 16 elements, so that a strip of a
//! chunk is one ascending stream.
//!
//! ```text
//!         keys of a block               values of a chunk
//! f16     (head_dim, 16)                (head_dim / 16, CHUNK, 16)
//! bf16    the same                      the same
//! f32     the same                      the same
//! others  (head_dim / 32) groups, see `groups.rs`
//! ```
//! Numbers of f16 are little-endian IEEE half floats, numbers of bf16 the upper halves of little-endian floats, numbers
//! of f32 such floats.
//!
//! # Rounding
//! Half floats and bf16 are the nearest, ties to even. A group is 32 elements of a head at one position: its scale is
//! rounded to a half float, its codes are the integers nearest to `x / scale`, ties to even
//! ([`order::cache_block`](crate::cpu::order::cache_block)). Reading is one rounding in single precision: the product
//! of code and scale, plus a minimum if there is one. (ggml divides by the scale before that is rounded; files never
//! hold these bytes.)
//!
//! To add a type: an arm in each `match` here; the tests of attention walk [`CacheType::ALL`].

use super::groups::{self, GROUP, keys, value, values, with_bits};
use super::piece::Half;
use super::view::CHUNK;
use crate::cpu::lanes::{LANES, Lanes, nth};
use half::{bf16, f16};

/// How keys or values are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheType {
    /// IEEE half floats.
    #[default]
    F16,
    /// Bytes, 32 of them with one half float as their scale.
    Q8_0,
    /// Floats: nothing is rounded.
    F32,
    /// The upper halves of floats.
    BF16,
    /// Codes of 5 bits, 32 of them with one scale and one minimum.
    Q5_1,
    /// Codes of 4 bits, 32 of them with one half float as their scale.
    Q4_0,
}

impl std::str::FromStr for CacheType {
    type Err = String;

    /// By its name.
    fn from_str(name: &str) -> Result<CacheType, String> {
        let found = CacheType::ALL.into_iter().find(|ty| ty.name() == name);
        found.ok_or_else(|| {
            let [others @ .., last] = CacheType::ALL.map(|ty| ty.name());
            format!("give {} or {last}", others.join(", "))
        })
    }
}

impl CacheType {
    /// Every type; session files have its place here.
    pub const ALL: [CacheType; 6] = [
        CacheType::F16,
        CacheType::Q8_0,
        CacheType::F32,
        CacheType::BF16,
        CacheType::Q5_1,
        CacheType::Q4_0,
    ];

    /// The name that llama.cpp's flags `-ctk` and `-ctv` use.
    pub fn name(self) -> &'static str {
        match self {
            CacheType::F16 => "f16",
            CacheType::Q8_0 => "q8_0",
            CacheType::F32 => "f32",
            CacheType::BF16 => "bf16",
            CacheType::Q5_1 => "q5_1",
            CacheType::Q4_0 => "q4_0",
        }
    }

    /// Bits of a code, or of a number that is stored without a scale.
    const fn bits(self) -> usize {
        match self {
            CacheType::F32 => 32,
            CacheType::F16 | CacheType::BF16 => 16,
            CacheType::Q8_0 => 8,
            CacheType::Q5_1 => 5,
            CacheType::Q4_0 => 4,
        }
    }

    /// Whether it has codes and scales.
    const fn is_quantized(self) -> bool {
        self.bits() <= 8
    }

    /// Whether heads of so many elements, a multiple of 16, can be stored.
    pub fn fits(self, head_dim: usize) -> bool {
        !self.is_quantized() || head_dim.is_multiple_of(GROUP)
    }

    /// Bytes of one position of a head.
    pub fn row_bytes(self, head_dim: usize) -> usize {
        if self.is_quantized() {
            return head_dim / GROUP * groups::row_bytes(self.bits());
        }
        self.bits() / 8 * head_dim
    }

    /// Bytes of a piece.
    pub fn piece_bytes(self, half: Half, head_dim: usize) -> usize {
        half.positions() * self.row_bytes(head_dim)
    }

    /// Writes one position of one head: `row` is (head_dim), `bytes` the pieces of that head.
    pub fn store(self, half: Half, bytes: &mut [u8], position: usize, row: &[f32]) {
        let piece_bytes = self.piece_bytes(half, row.len());
        let piece = &mut bytes[position / half.positions() * piece_bytes..][..piece_bytes];
        let p = position % half.positions();
        match self {
            CacheType::F16 => {
                for (d, x) in row.iter().enumerate() {
                    let at = 2 * half.index(d, p);
                    piece[at..at + 2].copy_from_slice(&f16::from_f32(*x).to_le_bytes());
                }
            }
            CacheType::F32 => {
                for (d, x) in row.iter().enumerate() {
                    let at = 4 * half.index(d, p);
                    piece[at..at + 4].copy_from_slice(&x.to_le_bytes());
                }
            }
            CacheType::BF16 => {
                for (d, x) in row.iter().enumerate() {
                    let at = 2 * half.index(d, p);
                    piece[at..at + 2].copy_from_slice(&bf16::from_f32(*x).to_le_bytes());
                }
            }
            CacheType::Q8_0 | CacheType::Q5_1 | CacheType::Q4_0 => {
                let bits = self.bits();
                let groups = piece.chunks_exact_mut(groups::row_bytes(bits) * half.positions());
                for (group, row) in groups.zip(row.chunks_exact(GROUP)) {
                    groups::store(half, bits, group, p, row);
                }
            }
        }
    }

    /// What is read back of a row that was stored: (head_dim).
    pub fn rounded(self, row: &[f32]) -> Vec<f32> {
        match self {
            CacheType::F16 => row.iter().map(|x| f16::from_f32(*x).to_f32()).collect(),
            CacheType::BF16 => row.iter().map(|x| bf16::from_f32(*x).to_f32()).collect(),
            CacheType::F32 => row.to_vec(),
            CacheType::Q8_0 | CacheType::Q5_1 | CacheType::Q4_0 => {
                row.chunks_exact(GROUP).flat_map(|row| groups::rounded(self.bits(), row)).collect()
            }
        }
    }

    /// Copies position `from` of one head to position `to`, bit by bit.
    pub fn copy(self, half: Half, bytes: &mut [u8], head_dim: usize, from: usize, to: usize) {
        let [from, to] = [from, to].map(|position| self.place(half, head_dim, position));
        self.parts(half, head_dim, |at, size, index| {
            let [from, to] = [from, to].map(|(piece, p)| piece + at + size * index(p));
            bytes.copy_within(from..from + size, to);
        });
    }

    /// The bytes of one position of one head without their layout, (row_bytes): the numbers in order, each scale before
    /// its codes.
    pub fn read(self, half: Half, bytes: &[u8], head_dim: usize, position: usize, row: &mut [u8]) {
        let (piece, p) = self.place(half, head_dim, position);
        let mut done = 0;
        self.parts(half, head_dim, |at, size, index| {
            row[done..done + size].copy_from_slice(&bytes[piece + at + size * index(p)..][..size]);
            done += size;
        });
    }

    /// Puts back what [`CacheType::read`] gives.
    pub fn write(self, half: Half, bytes: &mut [u8], head_dim: usize, position: usize, row: &[u8]) {
        let (piece, p) = self.place(half, head_dim, position);
        let mut done = 0;
        self.parts(half, head_dim, |at, size, index| {
            bytes[piece + at + size * index(p)..][..size].copy_from_slice(&row[done..done + size]);
            done += size;
        });
    }

    /// Where the piece of a position begins, and which of its positions that is.
    fn place(self, half: Half, head_dim: usize, position: usize) -> (usize, usize) {
        let piece = position / half.positions() * self.piece_bytes(half, head_dim);
        (piece, position % half.positions())
    }

    /// Names the numbers of a row in order: where those of the same place in all rows of a piece begin, their size, and
    /// which of them is that of a position.
    fn parts(
        self,
        half: Half,
        head_dim: usize,
        mut part: impl FnMut(usize, usize, &dyn Fn(usize) -> usize),
    ) {
        match self {
            CacheType::F16 | CacheType::BF16 => {
                (0..head_dim).for_each(|d| part(0, 2, &|p| half.index(d, p)));
            }
            CacheType::F32 => (0..head_dim).for_each(|d| part(0, 4, &|p| half.index(d, p))),
            CacheType::Q8_0 | CacheType::Q5_1 | CacheType::Q4_0 => {
                let group_bytes = groups::row_bytes(self.bits()) * half.positions();
                for group in 0..head_dim / GROUP {
                    groups::places(half, self.bits(), |at, size, index| {
                        part(group * group_bytes + at, size, index);
                    });
                }
            }
        }
    }
}

/// Keys or values of one head.
#[derive(Clone, Copy)]
pub struct Cells<'a> {
    /// How they are stored.
    pub ty: CacheType,
    bytes: &'a [u8], // pieces, one after the other
    chunks: usize,
}

impl<'a> Cells<'a> {
    /// The pieces of one head, which are whole chunks. Chunk `c` of a sequence lies at `c` modulo their number: a cache
    /// that is shorter than the sequence is a ring.
    pub fn new(ty: CacheType, half: Half, head_dim: usize, bytes: &'a [u8]) -> Cells<'a> {
        let chunk = ty.piece_bytes(half, head_dim) * (CHUNK / half.positions());
        Cells { ty, bytes, chunks: bytes.len() / chunk }
    }

    /// Where chunk `chunk` of the sequence lies.
    #[inline(always)]
    pub(super) fn slot(&self, chunk: usize) -> usize {
        if chunk < self.chunks { chunk } else { chunk % self.chunks }
    }

    /// The pieces of type f16, sixteen numbers a cell.
    pub(super) fn f16_cells(&self) -> &'a [[u8; 2 * LANES]] {
        bytemuck::cast_slice(self.bytes)
    }

    /// Keys of the 16 positions of block `block` of the cache as floats: (head_dim, 16).
    #[inline(always)]
    pub(super) fn keys<S: Lanes>(&self, s: S, block: usize, out: &mut [[f32; LANES]]) {
        let piece_bytes = self.ty.piece_bytes(Half::Keys, out.len());
        let piece = &self.bytes[block * piece_bytes..][..piece_bytes];
        match self.ty {
            CacheType::F16 => widen(s, piece, out),
            CacheType::F32 => copy(piece, out),
            CacheType::BF16 => widen_bf16(s, piece, out),
            CacheType::Q8_0 | CacheType::Q5_1 | CacheType::Q4_0 => {
                let bits = self.ty.bits();
                let groups = piece.chunks_exact(groups::row_bytes(bits) * LANES);
                for (group, out) in groups.zip(out.chunks_exact_mut(GROUP)) {
                    with_bits!(bits, keys::<S, BITS>(s, group, out));
                }
            }
        }
    }

    /// Positions of one strip of a chunk of values as floats, from `first` on, which is a multiple of 16:
    /// (positions, 16).
    #[inline(always)]
    pub(super) fn values<S: Lanes>(
        &self,
        s: S,
        head_dim: usize,
        chunk: usize,
        strip: usize,
        first: usize,
        out: &mut [[f32; LANES]],
    ) {
        let piece_bytes = self.ty.piece_bytes(Half::Values, head_dim);
        let piece = &self.bytes[self.slot(chunk) * piece_bytes..][..piece_bytes];
        match self.ty {
            CacheType::F16 => widen(s, &piece[2 * LANES * (strip * CHUNK + first)..], out),
            CacheType::F32 => copy(&piece[4 * LANES * (strip * CHUNK + first)..], out),
            CacheType::BF16 => widen_bf16(s, &piece[2 * LANES * (strip * CHUNK + first)..], out),
            CacheType::Q8_0 | CacheType::Q5_1 | CacheType::Q4_0 => {
                let (group, strip) = self.group_of(piece, strip);
                with_bits!(self.ty.bits(), values::<S, BITS>(s, group, strip, first, out));
            }
        }
    }

    /// Sixteen elements of the value of one position.
    #[inline(always)]
    pub(super) fn value<S: Lanes>(
        &self,
        s: S,
        head_dim: usize,
        position: usize,
        strip: usize,
    ) -> S::F {
        let piece_bytes = self.ty.piece_bytes(Half::Values, head_dim);
        let piece = &self.bytes[self.slot(position / CHUNK) * piece_bytes..][..piece_bytes];
        let p = position % CHUNK;
        match self.ty {
            CacheType::F16 => s.load_f16(nth(piece, strip * CHUNK + p)),
            CacheType::F32 => s.load(&floats(nth(piece, strip * CHUNK + p))),
            CacheType::BF16 => s.load_bf16(nth(piece, strip * CHUNK + p)),
            CacheType::Q8_0 | CacheType::Q5_1 | CacheType::Q4_0 => {
                let (group, strip) = self.group_of(piece, strip);
                with_bits!(self.ty.bits(), value::<S, BITS>(s, group, strip, p))
            }
        }
    }

    /// The group of values in which strip `strip` of a chunk lies, and its number there.
    #[inline(always)]
    fn group_of(&self, piece: &'a [u8], strip: usize) -> (&'a [u8], usize) {
        let (strips, len) = (GROUP / LANES, groups::row_bytes(self.ty.bits()) * CHUNK);
        (&piece[strip / strips * len..][..len], strip % strips)
    }
}

/// Floats of sixteen numbers each.
#[inline(always)]
fn copy(bytes: &[u8], out: &mut [[f32; LANES]]) {
    for (bytes, out) in bytes.as_chunks().0.iter().zip(out) {
        *out = floats(bytes);
    }
}

#[inline(always)]
fn floats(bytes: &[u8; 4 * LANES]) -> [f32; LANES] {
    std::array::from_fn(|i| f32::from_le_bytes(*nth(bytes, i)))
}

/// Half floats as floats.
#[inline(always)]
fn widen<S: Lanes>(s: S, halves: &[u8], out: &mut [[f32; LANES]]) {
    for (halves, out) in halves.chunks_exact(2 * LANES).zip(out) {
        s.store(s.load_f16(nth(halves, 0)), out);
    }
}

/// Upper halves of floats as floats.
#[inline(always)]
fn widen_bf16<S: Lanes>(s: S, halves: &[u8], out: &mut [[f32; LANES]]) {
    for (halves, out) in halves.chunks_exact(2 * LANES).zip(out) {
        s.store(s.load_bf16(nth(halves, 0)), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::lanes::{Wide, lanes};
    use crate::cpu::scalar::Scalar;

    const SCALAR: Wide<Scalar, 1> = Wide(Scalar);

    /// A row of numbers that differ, and are exact in all types of eight bits and more.
    fn row(position: usize, head_dim: usize) -> Vec<f32> {
        let mut row: Vec<f32> =
            (0..head_dim).map(|d| ((position * 31 + d * 7) % 255) as f32 - 127.0).collect();
        row.chunks_mut(GROUP).for_each(|group| group[position % group.len()] = 127.0);
        row
    }

    /// Key and value of a position as attention reads them.
    fn read(keys: Cells, values: Cells, position: usize, head_dim: usize) -> [Vec<f32>; 2] {
        let mut block = vec![[0.0; LANES]; head_dim];
        keys.keys(SCALAR, position / LANES, &mut block);
        let value = (0..head_dim / LANES).flat_map(|strip| {
            let (p, first) = (position % CHUNK, position % CHUNK / LANES * LANES);
            let mut cells = vec![[0.0; LANES]; p + 1];
            values.values(SCALAR, head_dim, position / CHUNK, strip, 0, &mut cells);
            let one = lanes(SCALAR, values.value(SCALAR, head_dim, position, strip));
            assert_eq!(cells[p], one);
            values.values(SCALAR, head_dim, position / CHUNK, strip, first, &mut cells[first..]);
            assert_eq!(cells[p], one);
            one
        });
        [block.iter().map(|lanes| lanes[position % LANES]).collect(), value.collect()]
    }

    #[test]
    fn what_is_stored_or_copied_is_read_back() {
        for ty in CacheType::ALL {
            for head_dim in [32, 96] {
                let mut bytes = [Half::Keys, Half::Values].map(|half| {
                    vec![0xff; ty.piece_bytes(half, head_dim) * 512 / half.positions()]
                });
                let halves = [Half::Keys, Half::Values];
                for position in 0..300 {
                    for (half, bytes) in halves.into_iter().zip(&mut bytes) {
                        ty.store(half, bytes, position, &row(position, head_dim));
                    }
                }
                let expect = |bytes: &[Vec<u8>; 2], at: usize, like: usize| {
                    let [keys, values] =
                        [0, 1].map(|i| Cells::new(ty, halves[i], head_dim, &bytes[i]));
                    let row = row(like, head_dim);
                    let expected = ty.rounded(&row);
                    assert!(expected == row || ty.bits() < 8);
                    assert_eq!(read(keys, values, at, head_dim), [expected.clone(), expected]);
                };
                (0..300).for_each(|position| expect(&bytes, position, position));
                let mut plain = vec![0; ty.row_bytes(head_dim)];
                for (half, bytes) in halves.into_iter().zip(&mut bytes) {
                    let mut other = vec![0xff; bytes.len()];
                    for position in 0..300 {
                        ty.read(half, bytes, head_dim, position, &mut plain);
                        ty.write(half, &mut other, head_dim, position, &plain);
                    }
                    assert_eq!(&other, bytes);
                }
                if ty == CacheType::F16 {
                    ty.read(Half::Values, &bytes[1], head_dim, 7, &mut plain);
                    let halves =
                        row(7, head_dim).into_iter().flat_map(|x| f16::from_f32(x).to_le_bytes());
                    assert_eq!(plain, halves.collect::<Vec<u8>>());
                }
                for (from, to) in [(299, 3), (17, 16), (258, 255), (40, 40)] {
                    for (half, bytes) in halves.into_iter().zip(&mut bytes) {
                        ty.copy(half, bytes, head_dim, from, to);
                    }
                    expect(&bytes, to, from);
                    expect(&bytes, to + 1, if to + 1 == 17 { 17 } else { to + 1 });
                }
            }
        }
    }

    #[test]
    fn sizes_are_those_of_the_types() {
        assert_eq!(CacheType::F16.piece_bytes(Half::Keys, 128), 16 * 128 * 2);
        assert_eq!(CacheType::Q8_0.piece_bytes(Half::Values, 128), CHUNK * 4 * 34);
        assert_eq!(CacheType::Q5_1.row_bytes(128), 4 * 24);
        assert_eq!(CacheType::Q4_0.row_bytes(128), 4 * 18);
        assert!(CacheType::F16.fits(48) && !CacheType::Q8_0.fits(48) && CacheType::Q8_0.fits(64));
    }
    #[test]
    fn rounding_is_as_good_as_that_of_ggml() {
        let mut state = 1u32;
        let mut draw = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        let rows: Vec<f32> = (0..32 * 1000).map(|_| draw() + draw() + draw()).collect();
        let error = |rounded: &[f32]| {
            let errors = rounded.iter().zip(&rows).map(|(a, b)| f64::from(a - b).powi(2));
            errors.sum::<f64>()
        };
        for (ty, id) in [(CacheType::Q8_0, 8), (CacheType::Q5_1, 7), (CacheType::Q4_0, 2)] {
            let mut theirs = vec![0.0; rows.len()];
            let bytes = ggml_sys::quantize(id, &rows, 32).unwrap();
            ggml_sys::dequantize(id, &bytes, &mut theirs).unwrap();
            let ratio = error(&ty.rounded(&rows)) / error(&theirs);
            assert!((0.9..1.01).contains(&ratio), "{}: {ratio}", ty.name());
        }
        for ty in CacheType::ALL {
            assert_eq!(ty.rounded(&[0.0; 32]), [0.0; 32], "{}", ty.name());
        }
    }
}
