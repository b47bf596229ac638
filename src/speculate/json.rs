//! Costs and counts as JSON.

use crate::planner::MAX_BATCH;
use crate::planner::acceptance::{ByTemperature, CLASSES, Cell, Cells, DEPTHS};
use crate::planner::cost::{Costs, Curve, DraftCost, Table, VerifyCost};
use crate::tree::MAX_NODES;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Serialize, Deserialize)]
struct TableData {
    batch: usize,
    context: usize,
    #[serde(flatten)]
    curve: CurveData,
}

#[derive(Serialize, Deserialize)]
struct DraftData {
    first: f64,
    #[serde(flatten)]
    level: CurveData,
}

#[derive(Serialize, Deserialize)]
struct CurveData {
    rows: Vec<usize>,
    seconds: Vec<f64>,
}

/// For each temperature and depth, [tested, accepted] of each class.
type CountsData = Vec<[[[f64; 2]; CLASSES]; DEPTHS]>;

impl CurveData {
    fn of(curve: &Curve) -> CurveData {
        let (rows, seconds) = curve.measured().unzip();
        CurveData { rows, seconds }
    }

    fn curve(self) -> Result<Curve, String> {
        if self.rows.len() != self.seconds.len() {
            return Err("as many \"rows\" as \"seconds\" are needed".into());
        }
        if self.rows.iter().any(|n| *n > MAX_BATCH * MAX_NODES) {
            return Err("more rows than a pass has".into());
        }
        Curve::new(&self.rows.into_iter().zip(self.seconds).collect::<Vec<_>>())
    }
}

fn read<'a, T: Deserialize<'a>>(value: &'a Value) -> Result<T, String> {
    T::deserialize(value).map_err(|error| error.to_string())
}

/// Costs as JSON: `{"verify": [table, …], "draft": {"first", "rows", "seconds"}}`, where a table is `{"batch",
/// "context", "rows", "seconds"}`. Times are in seconds.
pub fn costs_to_json(costs: &Costs) -> Value {
    json!({ "verify": verify_to_json(&costs.verify), "draft": draft_to_json(&costs.draft) })
}

/// Costs from JSON.
///
/// # Errors
/// A text that says what is missing or wrong.
pub fn costs_from_json(value: &Value) -> Result<Costs, String> {
    Ok(Costs {
        verify: verify_from_json(&value["verify"])?,
        draft: draft_from_json(&value["draft"])?,
    })
}

pub(super) fn verify_to_json(cost: &VerifyCost) -> Value {
    let tables = cost.tables().iter().map(|Table { batch, context, curve }| {
        json!(TableData { batch: *batch, context: *context, curve: CurveData::of(curve) })
    });
    tables.collect()
}

pub(super) fn verify_from_json(value: &Value) -> Result<VerifyCost, String> {
    let tables = read::<Vec<TableData>>(value)?.into_iter().map(|table| {
        Ok(Table { batch: table.batch, context: table.context, curve: table.curve.curve()? })
    });
    let cost = VerifyCost::new(tables.collect::<Result<_, String>>()?)?;
    let key = |table: &Table| (table.batch, table.context);
    match cost.tables().windows(2).find(|pair| key(&pair[0]) == key(&pair[1])) {
        None => Ok(cost),
        Some(_) => Err("two tables of one batch and context".into()),
    }
}

pub(super) fn draft_to_json(cost: &DraftCost) -> Value {
    json!(DraftData { first: cost.first, level: CurveData::of(&cost.level) })
}

pub(super) fn draft_from_json(value: &Value) -> Result<DraftCost, String> {
    let DraftData { first, level } = read(value)?;
    if first < 0.0 {
        return Err(format!("the first level takes {first} s"));
    }
    Ok(DraftCost { first, level: level.curve()? })
}

/// Acceptance counts as JSON: for each temperature and depth, [tested, accepted] of each class.
pub fn acceptance_to_json(acceptance: &ByTemperature) -> Value {
    let round = |x: f32| (f64::from(x) * 100.0).round() / 100.0;
    let cell = |cell: Cell| [round(cell.tested), round(cell.accepted.min(cell.tested))];
    let counts = acceptance.counts().map(|cells| cells.map(|classes| classes.map(cell)));
    json!(counts.collect::<CountsData>())
}

/// Acceptance counts from JSON.
///
/// # Errors
/// A text that says what is wrong.
pub fn acceptance_from_json(value: &Value) -> Result<ByTemperature, String> {
    let counts: CountsData = read(value)?;
    let wrong = |[tested, accepted]: &[f64; 2]| {
        !(0.0..=1e9).contains(tested) || !(0.0..=*tested).contains(accepted)
    };
    if counts.iter().flatten().flatten().any(wrong) {
        return Err("more draft tokens were accepted than tested, or too many".into());
    }
    let cell =
        |[tested, accepted]: [f64; 2]| Cell { tested: tested as f32, accepted: accepted as f32 };
    let counts = counts.into_iter().map(|cells| cells.map(|classes| classes.map(cell)));
    Ok(ByTemperature::of(&counts.collect::<Vec<Cells>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let curve = |first: usize| Curve::new(&[(first, 0.25), (first + 3, 0.125)]).unwrap();
        let table = |batch, context| Table { batch, context, curve: curve(batch) };
        let costs = Costs {
            verify: VerifyCost::new(vec![table(1, 64), table(8, 64), table(1, 2048)]).unwrap(),
            draft: DraftCost { first: 0.5, level: curve(1) },
        };
        assert_eq!(costs_from_json(&costs_to_json(&costs)), Ok(costs.clone()));
        let mut cells = [[Cell::default(); CLASSES]; DEPTHS];
        cells[2][5] = Cell { tested: 3.25, accepted: 1.5 };
        let acceptance = ByTemperature::of(&[cells, cells]);
        assert_eq!(acceptance_from_json(&acceptance_to_json(&acceptance)), Ok(acceptance.clone()));
        // Key order, additional keys and integers do not matter.
        let text = r#"{"draft": {"first": 1, "rows": [1], "seconds": [0.25]}, "took": 3,
            "verify": [{"seconds": [2, 0.5], "rows": [1, 1024], "context": 0, "batch": 1, "isa": "avx2"}]}"#;
        let read = costs_from_json(&serde_json::from_str(text).unwrap()).unwrap();
        assert_eq!(read.verify.seconds(1, 9, 1024), 0.5);
        assert_eq!((read.draft.first, read.draft.level.seconds(1)), (1.0, 0.25));
        // Every number is read back exactly.
        for first in (1..1000).map(|i| f64::from(i) / 7e8) {
            let draft = DraftCost { first, level: curve(1) };
            let text = draft_to_json(&draft).to_string();
            assert_eq!(draft_from_json(&serde_json::from_str(&text).unwrap()), Ok(draft));
        }
        let good = costs_to_json(&costs);
        for (path, wrong) in [
            ("/verify", json!([])),
            ("/verify/0/rows", json!([1])),
            ("/verify/0/rows", json!([2, 1])),
            ("/verify/0/rows", json!([1, 1e18])),
            ("/verify/1/context", json!(64)),
            ("/verify/0/seconds", json!([1, "x"])),
            ("/verify/1/batch", json!(-1)),
            ("/draft/first", json!(null)),
            ("/draft/first", json!(-1)),
            ("/verify/0/rows", json!([1, 1025])),
            ("/verify/0/rows", json!([1, 2.5])),
            ("/verify/0/seconds", json!([1, -1])),
            ("/draft", json!({})),
        ] {
            let mut bad = good.clone();
            *bad.pointer_mut(path).unwrap() = wrong;
            costs_from_json(&bad).unwrap_err();
        }
        for (path, wrong) in [("", json!({})), ("/0/1/1", json!([1, 2])), ("/1/2", json!([]))] {
            let mut bad = acceptance_to_json(&acceptance);
            *bad.pointer_mut(path).unwrap() = wrong;
            acceptance_from_json(&bad).unwrap_err();
        }
    }
}
