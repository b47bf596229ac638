//! The directory of tensors: name, shape, type, and where the bytes lie.
//!
//! A [`TensorInfo`] exists only after its shape, type, offset and length were checked against the
//! file, so a [`TensorView`] made from it can be trusted.

use super::reader::{Parse, Reader};

/// Most dimensions a tensor can have.
const DIMS_MAX: usize = 4;

/// Offsets are multiples of this at least: enough for every element type.
pub(super) const ALIGNMENT_MIN: u64 = 8;

/// What the file says about one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name, unique in the model.
    pub name: String,
    /// Lengths in GGML's order, fastest first: a weight is `[n_inputs, n_outputs]`. Empty for a
    /// scalar.
    pub shape: Vec<usize>,
    /// The element type as GGML numbers it.
    pub type_id: u32,
    /// Where its bytes begin, from the start of its file.
    pub offset: usize,
    /// How many bytes it takes.
    pub bytes: usize,
    /// Which file of a split model holds it: an index into the parts.
    pub(super) part: usize,
}

/// A tensor's description and its bytes, of the length that shape and type demand.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    pub(super) info: &'a TensorInfo,
    bytes: &'a [u8],
}

impl<'a> TensorView<'a> {
    /// The tensor's description.
    pub fn info(&self) -> &'a TensorInfo {
        self.info
    }

    /// Its name.
    pub fn name(&self) -> &'a str {
        &self.info.name
    }

    /// Lengths in GGML's order, fastest first.
    pub fn shape(&self) -> &'a [usize] {
        &self.info.shape
    }

    /// The element type as GGML numbers it.
    pub fn type_id(&self) -> u32 {
        self.info.type_id
    }

    /// The element type's name, such as `q4_1`.
    pub fn type_name(&self) -> &'static str {
        block_of(self.info.type_id).map_or("unknown", |block| block.name)
    }

    /// The bytes, aligned to 8 at least.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub(super) fn new(info: &'a TensorInfo, file: &'a [u8]) -> Self {
        let bytes = &file[info.offset..info.offset + info.bytes];
        Self { info, bytes }
    }
}

/// Size of a type: `bytes` for every `len` elements.
struct BlockSize {
    name: &'static str,
    len: usize,
    bytes: usize,
}

/// The size of a type: weights as the kernels know them, other numbers here.
fn block_of(type_id: u32) -> Option<BlockSize> {
    let number = |name, bytes| Some(BlockSize { name, len: 1, bytes });
    match type_id {
        24 => number("i8", 1),
        25 => number("i16", 2),
        26 => number("i32", 4),
        27 => number("i64", 8),
        28 => number("f64", 8),
        weights => {
            let info = dovetail_kernels::quant::type_info(weights)?;
            Some(BlockSize { name: info.name, len: info.block_len, bytes: info.block_bytes })
        }
    }
}

/// Bytes of a tensor, or why its shape cannot be.
fn size_of(shape: &[usize], type_id: u32) -> Parse<usize> {
    let block = block_of(type_id).ok_or_else(|| {
        format!("has element type {type_id}, which is not supported; use another quantisation")
    })?;
    if shape.contains(&0) {
        return Err(format!("has an empty shape {shape:?}"));
    }
    let row = shape.first().copied().unwrap_or(1);
    if row % block.len != 0 {
        return Err(format!("has rows of {row}, not a multiple of {}'s {}", block.name, block.len));
    }
    let n_elements = shape.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim));
    n_elements
        .and_then(|n| (n / block.len).checked_mul(block.bytes))
        .filter(|&bytes| isize::try_from(bytes).is_ok())
        .ok_or_else(|| format!("has a shape too large to address: {shape:?}"))
}

/// Reads the directory; offsets stay relative to the data section.
pub(super) fn read_infos(reader: &mut Reader<'_>, n: usize, part: usize) -> Parse<Vec<TensorInfo>> {
    let mut infos = Vec::with_capacity(n);
    for _ in 0..n {
        let name = reader.name("tensor")?;
        let info = read_info(reader, &name, part).map_err(|what| tensor_error(&name, &what))?;
        infos.push(info);
    }
    Ok(infos)
}

fn read_info(reader: &mut Reader<'_>, name: &str, part: usize) -> Parse<TensorInfo> {
    let n_dims = reader.u32()? as usize;
    if n_dims > DIMS_MAX {
        return Err(format!("has {n_dims} dimensions, more than {DIMS_MAX}"));
    }
    let mut shape = Vec::with_capacity(n_dims);
    for _ in 0..n_dims {
        let dim = reader.u64()?;
        shape.push(usize::try_from(dim).map_err(|_| format!("has a dimension of {dim}"))?);
    }
    let type_id = reader.u32()?;
    let offset = reader.u64()?;
    let offset = usize::try_from(offset).map_err(|_| format!("has the offset {offset}"))?;
    let bytes = size_of(&shape, type_id)?;
    Ok(TensorInfo { name: name.to_owned(), shape, type_id, offset, bytes, part })
}

/// Turns offsets into positions in a file of `file_len` bytes whose data begin at `data`, and checks
/// that each tensor is aligned, inside the file, and apart from every other.
pub(super) fn place(
    infos: &mut [TensorInfo],
    data: usize,
    alignment: usize,
    file_len: usize,
) -> Parse<()> {
    for info in infos.iter_mut() {
        if !info.offset.is_multiple_of(alignment) {
            let what = format!("begins at {}, not a multiple of {alignment}", info.offset);
            return Err(tensor_error(&info.name, &what));
        }
        let start = data.checked_add(info.offset);
        let end = start.and_then(|start| start.checked_add(info.bytes));
        match (start, end) {
            (Some(start), Some(end)) if end <= file_len => info.offset = start,
            _ => {
                let what = format!(
                    "needs {} bytes at {} of the data, beyond the file's {file_len} bytes; \
                     the download is incomplete",
                    info.bytes, info.offset
                );
                return Err(tensor_error(&info.name, &what));
            }
        }
    }
    let mut order: Vec<&TensorInfo> = infos.iter().collect();
    order.sort_unstable_by_key(|info| info.offset);
    for pair in order.windows(2) {
        if pair[0].offset + pair[0].bytes > pair[1].offset {
            return Err(tensor_error(&pair[1].name, &format!("overlaps `{}`", pair[0].name)));
        }
    }
    Ok(())
}

fn tensor_error(name: &str, what: &str) -> String {
    format!("tensor `{name}` {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_follow_shape_and_type() {
        assert_eq!(size_of(&[64, 3], 3), Ok(120));
        assert_eq!(size_of(&[], 0), Ok(4));
        assert_eq!(size_of(&[256], 14), Ok(210));
        for (shape, type_id, part) in [
            (&[33][..], 3, "multiple of q4_1's 32"),
            (&[32, 0], 3, "empty shape"),
            (&[usize::MAX, 2], 0, "too large"),
            (&[1], 4, "element type 4"),
            (&[1], 9999, "element type 9999"),
            (&[1], u32::MAX, "not supported"),
        ] {
            let error = size_of(shape, type_id).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn placement_checks_alignment_end_and_overlap() {
        let info = |name: &str, offset, bytes| TensorInfo {
            name: name.into(),
            shape: vec![bytes],
            type_id: 24,
            offset,
            bytes,
            part: 0,
        };
        let mut good = [info("b", 32, 8), info("a", 0, 32)];
        place(&mut good, 64, 32, 104).unwrap();
        assert_eq!((good[0].offset, good[1].offset), (96, 64));
        for (infos, part) in [
            ([info("a", 0, 33), info("b", 32, 8)], "`b` overlaps `a`"),
            ([info("a", 0, 8), info("b", 16, 8)], "not a multiple of 32"),
            ([info("a", 0, 8), info("b", 32, 9)], "incomplete"),
            ([info("a", 0, 8), info("b", usize::MAX - 31, 9)], "incomplete"),
        ] {
            let error = place(&mut infos.clone(), 64, 32, 104).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
