//! Costs and counts as JSON.

use crate::planner::MAX_BATCH;
use crate::planner::acceptance::{ByTemperature, CLASSES, Cell, Cells, DEPTHS};
use crate::planner::cost::{Costs, Curve, DraftCost, Table, VerifyCost};
use crate::tree::MAX_NODES;
use serde_json::{Value, json};

/// Costs as JSON: `{"verify": [table, …], "draft": {"first", "rows", "seconds"}}`, a table being
/// `{"batch", "context", "rows", "seconds"}`.
pub fn of_costs(costs: &Costs) -> Value {
    json!({ "verify": of_verify(&costs.verify), "draft": of_draft(&costs.draft) })
}

/// Costs from JSON.
///
/// # Errors
/// What is missing or wrong.
pub fn to_costs(value: &Value) -> Result<Costs, String> {
    Ok(Costs { verify: to_verify(&value["verify"])?, draft: to_draft(&value["draft"])? })
}

pub(super) fn of_verify(cost: &VerifyCost) -> Value {
    let table = |Table { batch, context, curve }: &Table| {
        let mut value = of_curve(curve);
        value["batch"] = json!(batch);
        value["context"] = json!(context);
        value
    };
    cost.tables().iter().map(table).collect()
}

pub(super) fn to_verify(value: &Value) -> Result<VerifyCost, String> {
    let tables = value.as_array().ok_or("no tables of the target's passes")?.iter().map(|table| {
        let [batch, context] = [number(table, "batch")?, number(table, "context")?];
        Ok(Table { batch: batch as usize, context: context as usize, curve: to_curve(table)? })
    });
    let cost = VerifyCost::new(tables.collect::<Result<_, String>>()?)?;
    let place = |table: &Table| (table.batch, table.context);
    match cost.tables().windows(2).find(|pair| place(&pair[0]) == place(&pair[1])) {
        None => Ok(cost),
        Some(_) => Err("two tables of one batch and context".into()),
    }
}

pub(super) fn of_draft(cost: &DraftCost) -> Value {
    let mut value = of_curve(&cost.level);
    value["first"] = json!(cost.first);
    value
}

pub(super) fn to_draft(value: &Value) -> Result<DraftCost, String> {
    Ok(DraftCost { first: number(value, "first")?, level: to_curve(value)? })
}

fn of_curve(curve: &Curve) -> Value {
    let (rows, seconds): (Vec<_>, Vec<_>) = curve.measured().unzip();
    json!({ "rows": rows, "seconds": seconds })
}

fn to_curve(value: &Value) -> Result<Curve, String> {
    let (rows, seconds) = (numbers(value, "rows")?, numbers(value, "seconds")?);
    if rows.len() != seconds.len() {
        return Err("as many \"rows\" as \"seconds\" are needed".into());
    }
    if rows.iter().any(|n| *n > (MAX_BATCH * MAX_NODES) as f64) {
        return Err("more rows than a pass has".into());
    }
    Curve::new(&rows.into_iter().map(|n| n as usize).zip(seconds).collect::<Vec<_>>())
}

/// Counted guesses as JSON: for each temperature and depth [tested, accepted] of each class.
pub fn of_confidences(confidences: &ByTemperature) -> Value {
    let round = |x: f32| (f64::from(x) * 100.0).round() / 100.0;
    let cell = |cell: &Cell| json!([round(cell.tested), round(cell.accepted.min(cell.tested))]);
    let cells = |cells: &Cells| -> Value {
        cells.iter().map(|classes| classes.iter().map(cell).collect::<Value>()).collect()
    };
    confidences.counts().map(cells).collect()
}

/// Counted guesses from JSON.
///
/// # Errors
/// When they are none.
pub fn to_confidences(value: &Value) -> Result<ByTemperature, String> {
    let all = value.as_array().ok_or("no counts by temperature")?.iter().map(to_cells);
    Ok(ByTemperature::of(&all.collect::<Result<Vec<_>, _>>()?))
}

fn to_cells(value: &Value) -> Result<Cells, String> {
    let wrong = || "no counts by depth and class".to_owned();
    let mut cells = [[Cell::default(); CLASSES]; DEPTHS];
    for (depth, classes) in cells.iter_mut().enumerate() {
        for (class, cell) in classes.iter_mut().enumerate() {
            let [tested, accepted] = [0, 1].map(|i| value[depth][class][i].as_f64());
            let (tested, accepted) = tested.zip(accepted).ok_or_else(wrong)?;
            if !(0.0..=1e9).contains(&tested) || !(0.0..=tested).contains(&accepted) {
                return Err(wrong());
            }
            *cell = Cell { tested: tested as f32, accepted: accepted as f32 };
        }
    }
    Ok(cells)
}

fn number(value: &Value, name: &str) -> Result<f64, String> {
    let number = value[name].as_f64().filter(|n| n.is_finite() && *n >= 0.0);
    number.ok_or_else(|| format!("no number in {name:?}"))
}

fn numbers(value: &Value, name: &str) -> Result<Vec<f64>, String> {
    let numbers = value[name].as_array().map(|all| all.iter().map(Value::as_f64).collect());
    numbers.flatten().ok_or_else(|| format!("no numbers in {name:?}"))
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
        assert_eq!(to_costs(&of_costs(&costs)), Ok(costs.clone()));
        let mut cells = [[Cell::default(); CLASSES]; DEPTHS];
        cells[2][5] = Cell { tested: 3.25, accepted: 1.5 };
        let confidences = ByTemperature::of(&[cells, cells]);
        assert_eq!(to_confidences(&of_confidences(&confidences)), Ok(confidences.clone()));
        let good = of_costs(&costs);
        for (path, wrong) in [
            ("/verify", json!([])),
            ("/verify/0/rows", json!([1])),
            ("/verify/0/rows", json!([2, 1])),
            ("/verify/0/rows", json!([1, 1e18])),
            ("/verify/1/context", json!(64)),
            ("/verify/0/seconds", json!([1, "x"])),
            ("/verify/1/batch", json!(-1)),
            ("/draft/first", json!(null)),
            ("/draft", json!({})),
        ] {
            let mut bad = good.clone();
            *bad.pointer_mut(path).unwrap() = wrong;
            to_costs(&bad).unwrap_err();
        }
        for (path, wrong) in [("", json!({})), ("/0/1/1", json!([1, 2])), ("/1/2", json!([]))] {
            let mut bad = of_confidences(&confidences);
            *bad.pointer_mut(path).unwrap() = wrong;
            to_confidences(&bad).unwrap_err();
        }
    }
}
