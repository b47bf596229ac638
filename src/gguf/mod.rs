//! Reading models: the GGUF file format, versions 2 and 3, in one file or several.
//!
//! ```text
//! reader.rs       a bounded cursor over untrusted bytes
//! file.rs         mapping, read-ahead, release: the only unsafe code here
//! value.rs        the thirteen types of values
//! meta.rs         keys, and values by type
//! tensor.rs       names, shapes, types, places
//! split.rs        models in several files
//! fingerprint.rs  whether a file is still the same
//! ```
//!
//! The file is not trusted: every count, length, offset and shape is checked before it is used, and
//! an allocation is bounded by the bytes that could fill it. What [`Gguf`] hands out needs no
//! further check.
//!
//! # Source
//! The layout is described in `docs/gguf.md` of the ggml repository.

mod file;
mod fingerprint;
mod meta;
mod reader;
mod split;
mod tensor;
mod value;
#[cfg(test)]
pub(crate) mod writer;

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

pub(crate) use file::FileBytes;
pub use file::OpenOptions;
pub use meta::Metadata;
pub use tensor::{TensorInfo, TensorView};
pub use value::{Array, Value};

use crate::error::{Error, Result};
use dovetail_kernels::SharedBytes;
use reader::{Parse, Reader};
use split::Split;

/// Where data sections begin unless `general.alignment` says otherwise.
const ALIGNMENT_DEFAULT: u64 = 32;
/// Larger alignments are refused: no writer uses them.
const ALIGNMENT_MAX: u64 = 1 << 20;
/// Smallest entry of the key table: an empty name, a type, a one-byte value.
const KEY_MIN_BYTES: usize = 8 + 4 + 1;
/// Smallest entry of the tensor table: an empty name, no dimensions, a type, an offset.
const TENSOR_MIN_BYTES: usize = 8 + 4 + 4 + 8;

/// An opened model: its metadata and its tensors, across all its files.
#[derive(Debug)]
pub struct Gguf {
    metadata: Metadata,
    parts: Vec<Arc<FileBytes>>,
    tensors: Vec<TensorInfo>,
    by_name: HashMap<String, usize>,
}

impl Gguf {
    /// Maps a model. Of a split model any part may be named; all are opened.
    ///
    /// # Errors
    /// When a file cannot be read, is no GGUF file, or is malformed.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, OpenOptions::default())
    }

    /// Like [`open`](Self::open), with a choice of how the bytes are held.
    ///
    /// # Errors
    /// As for [`open`](Self::open); also when memory cannot be locked as asked.
    pub fn open_with(path: impl AsRef<Path>, options: OpenOptions) -> Result<Self> {
        let path = path.as_ref();
        let named = Part::open(path, options, 0)?;
        let Some(split) = named.split else { return Self::from_parts(vec![named]) };

        let mut named = Some(named);
        let mut parts = Vec::new();
        for (part, part_path) in split::part_paths(path, split)?.iter().enumerate() {
            let mut opened = match named.take_if(|_| part == split.part) {
                Some(opened) => opened,
                None => open_sibling(part_path, options, part)?,
            };
            split::check_sibling(part_path, opened.split, Split { part, ..split })?;
            opened.tensors.iter_mut().for_each(|info| info.part = part);
            parts.push(opened);
        }
        Self::from_parts(parts)
    }

    /// Reads a model that is already in memory: one file's bytes.
    ///
    /// # Errors
    /// When the bytes are no GGUF file, are malformed, or are one part of several.
    pub fn from_bytes(bytes: impl AsRef<[u8]>) -> Result<Self> {
        let path = Path::new("<memory>");
        let part = Part::parse(FileBytes::from_slice(bytes.as_ref(), path)?, path, 0)?;
        if part.split.is_some() {
            return Err(Error::gguf(path, "is one part of a split model; open it by its path"));
        }
        Self::from_parts(vec![part])
    }

    fn from_parts(opened: Vec<Part>) -> Result<Self> {
        let n_tensors = opened.first().and_then(|part| part.split).and_then(|s| s.n_tensors);
        let mut metadata = None;
        let mut parts = Vec::with_capacity(opened.len());
        let mut tensors = Vec::new();
        for part in opened {
            parts.push(Arc::new(part.file));
            tensors.extend(part.tensors);
            metadata.get_or_insert(part.metadata);
        }
        let metadata = metadata.expect("a model has at least one part");

        let mut by_name = HashMap::with_capacity(tensors.len());
        for (i, info) in tensors.iter().enumerate() {
            if by_name.insert(info.name.clone(), i).is_some() {
                let what = format!("tensor `{}` occurs twice", info.name);
                return Err(Error::gguf(metadata.path(), what));
            }
        }
        if let Some(n) = n_tensors.filter(|&n| n != tensors.len()) {
            let what = format!("has {} tensors in all parts instead of {n}", tensors.len());
            return Err(Error::gguf(metadata.path(), what));
        }
        Ok(Self { metadata, parts, tensors, by_name })
    }

    /// The keys and values; of a split model those of its first part.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The path of the file that holds the metadata.
    pub fn path(&self) -> &Path {
        self.metadata.path()
    }

    /// The tensor of a name.
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        self.by_name.get(name).map(|&i| self.view(&self.tensors[i]))
    }

    /// The tensor of a name, which must be there.
    ///
    /// # Errors
    /// [`Error::MissingTensor`].
    pub fn require_tensor(&self, name: &str) -> Result<TensorView<'_>> {
        let missing = || Error::MissingTensor { path: self.path().to_owned(), tensor: name.into() };
        self.tensor(name).ok_or_else(missing)
    }

    /// All tensors, in the order of the file.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = TensorView<'_>> {
        self.tensors.iter().map(|info| self.view(info))
    }

    /// Bytes of all tensors together.
    pub fn total_bytes(&self) -> u64 {
        self.tensors.iter().map(|info| info.bytes as u64).sum()
    }

    /// Asks the system to read a tensor ahead. Advice only.
    pub fn will_need(&self, tensor: &TensorView<'_>) {
        self.parts[tensor.info.part].will_need(tensor.info.offset, tensor.info.bytes);
    }

    /// Gives the pages of a part of a tensor back to the system, for one who has made a packed copy.
    /// The bytes stay readable: touching them fetches them from the file again. Advice only; a model
    /// that was read into memory keeps its pages.
    pub fn release(&self, tensor: &TensorView<'_>, part: Range<usize>) {
        self.parts[tensor.info.part].release(tensor.info.offset + part.start, part.len());
    }

    /// A tensor's bytes, which outlive the model as long as they are in use.
    pub fn share(&self, tensor: &TensorView<'_>) -> SharedBytes {
        let TensorInfo { part, offset, bytes, .. } = *tensor.info;
        SharedBytes::new(self.parts[part].clone(), offset..offset + bytes)
            .expect("tensors lie inside their file")
    }

    /// A number that changes when the files do: taken from their lengths, the times of their last
    /// change, everything before the tensors' data, and samples of these.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint_of(true)
    }

    /// The same without the times: that of a copy is the same.
    pub fn content_fingerprint(&self) -> u64 {
        self.fingerprint_of(false)
    }

    fn fingerprint_of(&self, times: bool) -> u64 {
        let data = |part| {
            let offsets = self.tensors.iter().filter(|info| info.part == part);
            offsets.map(|info| info.offset).min()
        };
        fingerprint::of(self.parts.iter().enumerate().map(|(i, file)| (&**file, data(i))), times)
    }

    fn view<'a>(&'a self, info: &'a TensorInfo) -> TensorView<'a> {
        TensorView::new(info, self.parts[info.part].bytes())
    }
}

/// One parsed file.
struct Part {
    file: FileBytes,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    split: Option<Split>,
}

impl Part {
    fn open(path: &Path, options: OpenOptions, part: usize) -> Result<Self> {
        Self::parse(FileBytes::open(path, options)?, path, part)
    }

    fn parse(file: FileBytes, path: &Path, part: usize) -> Result<Self> {
        let (metadata, tensors) =
            parse(file.bytes(), path, part).map_err(|what| Error::gguf(path, what))?;
        let split = Split::of(&metadata)?;
        Ok(Self { file, metadata, tensors, split })
    }
}

fn open_sibling(path: &Path, options: OpenOptions, part: usize) -> Result<Part> {
    Part::open(path, options, part).map_err(|error| match error {
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            Error::gguf(path, "this part of the model is missing; download it beside the others")
        }
        other => other,
    })
}

fn parse(bytes: &[u8], path: &Path, part: usize) -> Parse<(Metadata, Vec<TensorInfo>)> {
    let mut reader = Reader::new(bytes);
    check_version(&mut reader)?;
    let n_tensors = reader.count(TENSOR_MIN_BYTES, "tensors")?;
    let n_keys = reader.count(KEY_MIN_BYTES, "keys")?;
    let metadata = Metadata::read(&mut reader, n_keys, path)?;
    let alignment = alignment(&metadata)?;
    // The keys have used up bytes since the tensors were counted.
    if n_tensors > reader.remaining() / TENSOR_MIN_BYTES {
        return Err(format!("claims {n_tensors} tensors but ends too early; download it again"));
    }
    let mut tensors = tensor::read_infos(&mut reader, n_tensors, part)?;
    let data = reader.position().next_multiple_of(alignment);
    tensor::place(&mut tensors, data, alignment, bytes.len())?;
    Ok((metadata, tensors))
}

fn check_version(reader: &mut Reader<'_>) -> Parse<()> {
    let magic = reader.take(4).map_err(|_| "is too short to be a GGUF file".to_owned())?;
    match magic {
        b"GGUF" => {}
        b"FUGG" => return Err(big_endian()),
        b"ggml" | b"ggjt" | b"ggla" | b"lmgg" | b"tjgg" | b"fmgg" => {
            return Err("is an old GGML file; convert the model to GGUF".into());
        }
        _ => return Err("is not a GGUF file; give a model that ends in .gguf".into()),
    }
    match reader.u32()? {
        2 | 3 => Ok(()),
        1 => Err("is GGUF version 1; convert the model anew, version 3 is current".into()),
        version if version.swap_bytes() <= 0xffff => Err(big_endian()),
        version => Err(format!("is GGUF version {version}; this program reads 2 and 3")),
    }
}

fn big_endian() -> String {
    "is a big-endian GGUF file; convert the model for little-endian machines".into()
}

fn alignment(metadata: &Metadata) -> Parse<usize> {
    let alignment = metadata
        .get_u64("general.alignment")
        .map_err(|_| "key `general.alignment` is not an unsigned integer".to_owned())?
        .unwrap_or(ALIGNMENT_DEFAULT);
    let good =
        alignment.is_power_of_two() && (tensor::ALIGNMENT_MIN..=ALIGNMENT_MAX).contains(&alignment);
    if !good {
        return Err(format!("key `general.alignment` is {alignment}, not a usual power of two"));
    }
    Ok(alignment as usize)
}

#[cfg(test)]
pub(crate) mod tests;
