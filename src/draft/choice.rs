//! Chooses the drafter from the kind and file that the user gave, if any.

use super::{DRAFTERS, DrafterKind, FileFrom, discover, kind, kind_of};
use crate::error::Result;
use crate::model::Model;
use crate::setting::Setting;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Value of `--spec-type`.
#[derive(Clone, Copy, Debug)]
pub enum SpecType {
    /// The kind of the given file, or of the drafter found for the model.
    Auto,
    /// No drafter.
    None,
    /// This kind of drafter.
    Kind(&'static DrafterKind),
}

impl FromStr for SpecType {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<SpecType, String> {
        match (text, kind(text)) {
            ("auto", _) => Ok(SpecType::Auto),
            ("none", _) => Ok(SpecType::None),
            (_, Some(row)) => Ok(SpecType::Kind(row)),
            _ => {
                let names = DRAFTERS.iter().map(|row| row.name);
                let names = names.chain(["none", "auto"]).collect::<Vec<_>>();
                Err(format!("there are {}", names.join(", ")))
            }
        }
    }
}

/// The kind of drafter for `target`, and its file if it has one; `None` if no drafter is wanted, or none was named and
/// none is found.
///
/// # Errors
/// If the file cannot be read, or does not fit the named kind.
pub fn choose(
    asked: SpecType,
    file: Option<&Path>,
    target: &Model,
) -> Result<Option<(&'static DrafterKind, Option<PathBuf>)>> {
    Ok(match (asked, file.map(Path::to_owned)) {
        (SpecType::None, _) => None,
        (SpecType::Auto, None) => {
            discover::find(target)?.map(|path| (&super::trained::KIND, Some(path)))
        }
        (SpecType::Auto, Some(path)) => Some((kind_of(&path)?, Some(path))),
        (SpecType::Kind(row), None) => {
            let ready = if row.file == FileFrom::Shelf { discover::find(target)? } else { None };
            Some((row, ready))
        }
        (SpecType::Kind(row), Some(path)) if row.file != FileFrom::Nowhere => {
            Some((row, Some(path)))
        }
        (SpecType::Kind(row), Some(path)) => {
            let choice = Setting::DraftModel.with(path.display());
            let refusal =
                choice.clone().refuse_since(format!("{} takes no drafter's file", row.name));
            return Err(refusal.or_leave_out(choice).or_leave_out(Setting::SpecType).into());
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_true() {
        for row in DRAFTERS {
            let found = row.name.parse();
            assert!(matches!(found, Ok(SpecType::Kind(found)) if found.name == row.name));
            let growth = row.growth.to_string();
            assert_eq!(growth.parse(), Ok(row.growth), "{growth} can be asked for");
        }
        let wrong = "magic".parse::<SpecType>().unwrap_err();
        let names = DRAFTERS.iter().map(|row| format!("{}, ", row.name)).collect::<String>();
        assert_eq!(wrong, format!("there are {names}none, auto"));
    }
}
