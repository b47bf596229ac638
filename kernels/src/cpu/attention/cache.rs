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
//! f32     the same                      the same
//! q8_0    (head_dim / 32) ×             (head_dim / 32) ×
//!         [ 16 scales | (32, 16) ]      [ CHUNK scales | (2, CHUNK, 16) ]
//! ```
//! Numbers of f16 and scales are little-endian IEEE half floats, numbers of f32 little-endian floats, the codes of
//! q8_0 signed bytes.
//!
//! # Rounding
//! Half floats are the nearest, ties to even. A block of q8_0 is 32 elements of a head at one position:
//! its scale is `max|x| / 127` rounded to a half float, its codes the integers nearest to `x / scale`,
//! ties to even ([`order::cache_block`]). Reading multiplies code and scale in single precision:
//! one rounding. (ggml divides by the scale before that is rounded; files never hold these bytes.)
//!
//! To add a type: an arm in each `match` here; the tests of attention walk [`CacheType::ALL`].

use super::view::CHUNK;
use crate::cpu::lanes::{LANES, Lanes, lanes, nth};
use crate::cpu::order;
use half::f16;

/// Elements of a head that share a scale in q8_0.
const GROUP: usize = 32;

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
}

impl std::str::FromStr for CacheType {
    type Err = String;

    /// By its name.
    fn from_str(name: &str) -> Result<CacheType, String> {
        let [first, second, last] = CacheType::ALL.map(|ty| ty.name());
        let names = format!("{first}, {second} or {last}");
        let found = CacheType::ALL.into_iter().find(|ty| ty.name() == name);
        found.ok_or_else(|| format!("give {names}"))
    }
}

/// Which half of the cache: what a piece is, and the order of its elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// Blocks of 16 positions, positions side by side.
    Keys,
    /// Chunks of [`CHUNK`] positions, sixteen elements of a head side by side.
    Values,
}

impl Half {
    /// Positions of a piece.
    pub const fn positions(self) -> usize {
        match self {
            Half::Keys => LANES,
            Half::Values => CHUNK,
        }
    }

    /// Where element `d` of the head at position `p` of the piece stands.
    const fn index(self, d: usize, p: usize) -> usize {
        match self {
            Half::Keys => d * LANES + p,
            Half::Values => (d / LANES * CHUNK + p) * LANES + d % LANES,
        }
    }
}

impl CacheType {
    /// Every type.
    pub const ALL: [CacheType; 3] = [CacheType::F16, CacheType::Q8_0, CacheType::F32];

    /// The name that llama.cpp's flags `-ctk` and `-ctv` use.
    pub fn name(self) -> &'static str {
        match self {
            CacheType::F16 => "f16",
            CacheType::Q8_0 => "q8_0",
            CacheType::F32 => "f32",
        }
    }

    /// Whether heads of so many elements, a multiple of 16, can be stored.
    pub fn fits(self, head_dim: usize) -> bool {
        self != CacheType::Q8_0 || head_dim.is_multiple_of(GROUP)
    }

    /// Bytes of one position of a head.
    pub fn row_bytes(self, head_dim: usize) -> usize {
        match self {
            CacheType::F16 => 2 * head_dim,
            CacheType::Q8_0 => head_dim / GROUP * (2 + GROUP),
            CacheType::F32 => 4 * head_dim,
        }
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
            CacheType::Q8_0 => {
                let groups = piece.chunks_exact_mut((2 + GROUP) * half.positions());
                for (group, row) in groups.zip(row.chunks_exact(GROUP)) {
                    let mut codes = [0; GROUP];
                    let scale = order::cache_block(row, &mut codes);
                    group[2 * p..2 * p + 2].copy_from_slice(&scale.to_le_bytes());
                    for (i, code) in codes.into_iter().enumerate() {
                        group[2 * half.positions() + half.index(i, p)] = code as u8;
                    }
                }
            }
        }
    }

    /// What is read back of a row that was stored: (head_dim).
    pub fn rounded(self, row: &[f32]) -> Vec<f32> {
        let group = |row: &[f32]| {
            let mut codes = [0i8; GROUP];
            let scale = order::cache_block(row, &mut codes).to_f32();
            codes.map(|code| f32::from(code) * scale)
        };
        match self {
            CacheType::F16 => row.iter().map(|x| f16::from_f32(*x).to_f32()).collect(),
            CacheType::Q8_0 => row.chunks_exact(GROUP).flat_map(group).collect(),
            CacheType::F32 => row.to_vec(),
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

    /// The bytes of one position of one head without their layout, (row_bytes): the numbers in order, in q8_0 each
    /// scale before its codes.
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
            CacheType::F16 => (0..head_dim).for_each(|d| part(0, 2, &|p| half.index(d, p))),
            CacheType::F32 => (0..head_dim).for_each(|d| part(0, 4, &|p| half.index(d, p))),
            CacheType::Q8_0 => {
                for group in 0..head_dim / GROUP {
                    let scales = group * (2 + GROUP) * half.positions();
                    let codes = scales + 2 * half.positions();
                    part(scales, 2, &|p| p);
                    (0..GROUP).for_each(|d| part(codes, 1, &|p| half.index(d, p)));
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
            CacheType::Q8_0 => {
                let groups = piece.chunks_exact((2 + GROUP) * LANES);
                for (group, out) in groups.zip(out.chunks_exact_mut(GROUP)) {
                    let (scales, codes) = group.split_at(2 * LANES);
                    let scales = s.load_f16(nth(scales, 0));
                    for (codes, out) in codes.chunks_exact(LANES).zip(out) {
                        s.store(s.mul(s.to_f(s.load_i8(nth(codes, 0))), scales), out);
                    }
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
            CacheType::Q8_0 => {
                let (scales, codes) = strip_of_group(piece, strip);
                for (i, out) in (first / LANES..).zip(out.chunks_mut(LANES)) {
                    let scales = lanes(s, s.load_f16(nth(scales, i)));
                    let codes = codes[i * LANES * LANES..].chunks_exact(LANES);
                    for ((codes, scale), out) in codes.zip(&scales).zip(out) {
                        s.store(s.mul(s.to_f(s.load_i8(nth(codes, 0))), s.splat(*scale)), out);
                    }
                }
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
            CacheType::Q8_0 => {
                let (scales, codes) = strip_of_group(piece, strip);
                let scale = lanes(s, s.load_f16(nth(scales, p / LANES)))[p % LANES];
                s.mul(s.to_f(s.load_i8(nth(codes, p))), s.splat(scale))
            }
        }
    }
}

/// Scales (CHUNK) and codes (CHUNK, 16) of a strip of a chunk in q8_0.
#[inline(always)]
fn strip_of_group(piece: &[u8], strip: usize) -> (&[u8], &[u8]) {
    let len = (2 + GROUP) * CHUNK;
    let group = &piece[strip * LANES / GROUP * len..][..len];
    let (scales, codes) = group.split_at(2 * CHUNK);
    (scales, &codes[strip * LANES % GROUP * CHUNK..][..LANES * CHUNK])
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::lanes::Wide;
    use crate::cpu::scalar::Scalar;

    const SCALAR: Wide<Scalar, 1> = Wide(Scalar);

    /// A row whose numbers all differ and are exact in both types.
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
                    let expected = row(like, head_dim);
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
        assert!(CacheType::F16.fits(48) && !CacheType::Q8_0.fits(48) && CacheType::Q8_0.fits(64));
    }
}
