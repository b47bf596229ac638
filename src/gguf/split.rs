//! Models in several files: `NAME-00001-of-00003.gguf`.
//!
//! Any part names all others. The first holds the metadata; each says which part it is and of how
//! many, and how many tensors the whole has.

use std::path::{Path, PathBuf};

use super::meta::Metadata;
use crate::error::{Error, Result};

/// Part numbers have five digits.
const PARTS_MAX: usize = 99_999;

/// What a file says of its place in a split model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Split {
    /// Number of files.
    pub(super) n_parts: usize,
    /// Which of them this is, from 0.
    pub(super) part: usize,
    /// Tensors of all files together.
    pub(super) n_tensors: Option<usize>,
}

impl Split {
    /// `None` for a model in one file.
    pub(super) fn of(metadata: &Metadata) -> Result<Option<Self>> {
        let n_parts = metadata.get_u32("split.count")?.unwrap_or(0) as usize;
        if n_parts <= 1 {
            return Ok(None);
        }
        if n_parts > PARTS_MAX {
            let what = format!("says it is split into {n_parts} files; it is damaged");
            return Err(Error::gguf(metadata.path(), what));
        }
        let part = metadata.require_u32("split.no")? as usize;
        if part >= n_parts {
            let what = format!("says it is part {part} (from 0) of only {n_parts}");
            return Err(Error::gguf(metadata.path(), what));
        }
        let n_tensors = metadata.get_u32("split.tensors.count")?.map(|n| n as usize);
        Ok(Some(Self { n_parts, part, n_tensors }))
    }
}

/// The paths of all parts, in order, from the path and place of one of them.
pub(super) fn part_paths(path: &Path, split: Split) -> Result<Vec<PathBuf>> {
    let ending = ending(split.part, split.n_parts);
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some(stem) = name.strip_suffix(&ending) else {
        let what = format!("is part of a split model; its name must end in `{ending}`, rename it");
        return Err(Error::gguf(path, what));
    };
    let part_path =
        |part| path.with_file_name(format!("{stem}{}", self::ending(part, split.n_parts)));
    Ok((0..split.n_parts).map(part_path).collect())
}

fn ending(part: usize, n_parts: usize) -> String {
    format!("-{:05}-of-{n_parts:05}.gguf", part + 1)
}

/// Checks that a sibling belongs to the same split model.
pub(super) fn check_sibling(path: &Path, found: Option<Split>, expected: Split) -> Result<()> {
    let fits = found.is_some_and(|found| {
        found.part == expected.part
            && found.n_parts == expected.n_parts
            && (found.n_tensors.is_none() || found.n_tensors == expected.n_tensors)
    });
    if fits {
        return Ok(());
    }
    let (part, n_parts) = (expected.part + 1, expected.n_parts);
    let what = format!("is not part {part} of {n_parts} of this model; download all parts again");
    Err(Error::gguf(path, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_names_all() {
        let split = Split { n_parts: 3, part: 1, n_tensors: None };
        let paths = part_paths(Path::new("d/m-00002-of-00003.gguf"), split).unwrap();
        let names: Vec<_> = paths.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(
            names,
            ["d/m-00001-of-00003.gguf", "d/m-00002-of-00003.gguf", "d/m-00003-of-00003.gguf"]
        );
        let error = part_paths(Path::new("d/m.gguf"), split).unwrap_err().to_string();
        assert!(error.contains("-00002-of-00003.gguf"), "{error}");
    }
}
