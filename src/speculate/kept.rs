//! Decides whether a kept table is used or measured again.
//!
//! A table with implausible times was measured under load. It is used while the machine is busy, and measured again at
//! a start when the machine is idle. If the result is implausible several times, it is accepted as a property of the
//! machine.

use super::json::{draft_from_json, draft_to_json, verify_from_json, verify_to_json};
use super::store::{Store, StoreEntry};
use crate::error::Result;
use crate::planner::cost::{DraftCost, VerifyCost};
use crate::planner::plausible::is_step_down;
use serde_json::Value;

/// Most times that an implausible table is measured again.
const MAX_REMEASUREMENTS: u32 = 3;

/// A measurement that can be kept.
pub(super) trait KeptMeasurement: Sized {
    /// Its JSON in a file.
    fn to_json(&self) -> Value;
    /// Reads its JSON.
    fn from_json(value: &Value) -> std::result::Result<Self, String>;
    /// Whether all its times are plausible.
    fn is_plausible(&self) -> bool;
}

impl KeptMeasurement for VerifyCost {
    fn to_json(&self) -> Value {
        verify_to_json(self)
    }

    fn from_json(value: &Value) -> std::result::Result<VerifyCost, String> {
        verify_from_json(value)
    }

    fn is_plausible(&self) -> bool {
        VerifyCost::is_plausible(self)
    }
}

impl KeptMeasurement for DraftCost {
    fn to_json(&self) -> Value {
        draft_to_json(self)
    }

    fn from_json(value: &Value) -> std::result::Result<DraftCost, String> {
        draft_from_json(value)
    }

    fn is_plausible(&self) -> bool {
        DraftCost::is_plausible(self)
    }
}

/// Where a table is kept.
pub(super) struct TableKey<'a> {
    /// `None` if nothing can be kept.
    pub store: Option<&'a Store>,
    /// The name of the file, for people.
    pub name: &'a str,
    /// All that the times depend on.
    pub key: &'a str,
    /// Whether the table is measured even if it is kept.
    pub ignore_kept: bool,
}

/// The table of a key. It is measured if none is kept, and again if the kept one is in doubt and the machine is idle.
/// Returns the table, `None` if the measurement was cancelled, and whether this call saved it.
///
/// # Errors
/// Those of `is_idle` and `measure`.
pub(super) fn find_or_measure<M, T: KeptMeasurement>(
    table_key: &TableKey,
    measurer: &mut M,
    is_idle: impl FnOnce(&mut M) -> Result<bool>,
    measure: impl FnOnce(&mut M) -> Result<Option<T>>,
) -> Result<(Option<T>, bool)> {
    let TableKey { store, name, key, ignore_kept } = *table_key;
    let kept = store.filter(|_| !ignore_kept).and_then(|store| store.load(name, key));
    let kept = kept
        .and_then(|StoreEntry { data, under_load }| Some((T::from_json(&data).ok()?, under_load)));
    let mut before = 0;
    if let Some((table, under_load)) = kept {
        let in_doubt = under_load > 0 || !table.is_plausible();
        if !in_doubt || under_load > MAX_REMEASUREMENTS || !is_idle(measurer)? {
            return Ok((Some(table), false));
        }
        before = under_load;
    }
    let Some(table) = measure(measurer)? else { return Ok((None, false)) };
    let under_load = if table.is_plausible() { 0 } else { before + 1 };
    let entry = StoreEntry { data: table.to_json(), under_load };
    // A failure is ignored: the table will be measured again.
    let saved = store.is_some_and(|store| store.save(name, key, &entry).is_ok());
    Ok((Some(table), saved))
}

/// Whether passes over one row took the same time apart from noise, so that the machine has no other load.
pub(super) fn is_steady(times: &[f64]) -> bool {
    let (fastest, slowest) = times
        .iter()
        .fold((f64::INFINITY, 0.0), |(low, high), t| (f64::min(low, *t), f64::max(high, *t)));
    !is_step_down(slowest, fastest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::cost::Curve;
    use serde_json::json;

    fn draft(seconds: [f64; 3]) -> DraftCost {
        let level: Vec<_> = seconds.into_iter().enumerate().map(|(i, s)| (i + 1, s)).collect();
        DraftCost { first: 0.5, level: Curve::new(&level).unwrap() }
    }

    /// A start of the program. Returns the table that it uses, and whether it measured.
    fn start(store: &Store, idle: bool, measured: &DraftCost) -> (DraftCost, bool) {
        let mut asked = false;
        let measure = |asked: &mut bool| {
            *asked = true;
            Ok(Some(measured.clone()))
        };
        let table_key =
            TableKey { store: Some(store), name: "name", key: "key", ignore_kept: false };
        let (used, saved) = find_or_measure(&table_key, &mut asked, |_| Ok(idle), measure).unwrap();
        assert_eq!(saved, asked);
        (used.unwrap(), asked)
    }

    #[test]
    fn a_table_in_doubt_is_used_and_renewed_when_the_machine_is_idle() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path().to_owned());
        let (wrong, right) = (draft([1.0, 3.18, 1.22]), draft([1.0, 1.1, 1.22]));
        assert_eq!(start(&store, false, &wrong), (wrong.clone(), true));
        assert_eq!(store.load("name", "key").unwrap().under_load, 1, "it is marked");
        assert_eq!(start(&store, false, &right), (wrong.clone(), false), "the machine is busy");
        assert_eq!(start(&store, true, &right), (right.clone(), true));
        assert_eq!(store.load("name", "key").unwrap().under_load, 0);
        assert_eq!(start(&store, true, &wrong), (right.clone(), false), "nothing is in doubt");

        // Tables without a mark: one without any time, and one with a step down.
        for old in [draft([1.0, 1e-9, 1.0]), wrong.clone()] {
            let text =
                json!({ "version": 1, "about": "key", "data": draft_to_json(&old) }).to_string();
            std::fs::write(store.path("name", "key"), text).unwrap();
            assert_eq!(start(&store, false, &right), (old, false));
            assert_eq!(start(&store, true, &right), (right.clone(), true));
        }

        // A marked table is in doubt even if it is plausible.
        let entry = StoreEntry { data: draft_to_json(&right), under_load: 1 };
        store.save("name", "key", &entry).unwrap();
        assert!(start(&store, true, &right).1);
    }

    #[test]
    fn a_machine_that_is_like_that_is_believed_in_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path().to_owned());
        let wrong = draft([1.0, 3.0, 1.0]);
        let measured = (0..9).filter(|_| start(&store, true, &wrong).1).count();
        assert_eq!(measured, 1 + MAX_REMEASUREMENTS as usize);
    }

    #[test]
    fn steady_passes_say_that_a_machine_is_idle() {
        assert!(is_steady(&[0.003, 0.0031, 0.0034]));
        assert!(!is_steady(&[0.003, 0.0031, 0.0062]));
        assert!(is_steady(&[2e-6, 40e-6]), "what an interrupt takes");
    }
}
