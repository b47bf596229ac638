//! The list of models on the disk.

use crate::hub_flags::variable;
use crate::words;
use dovetail::hub::{self, Header, LocalModel};
use dovetail::machine::human_bytes;
use dovetail::printable::Printable;

/// What stands in place of what a broken file does not say.
const UNKNOWN: &str = "-";

/// A table of the models on the disk, a line each: name, size, quantisation, architecture, path.
pub fn table() -> String {
    let rows: Vec<_> = hub::models(&hub::folders(&variable)).iter().map(row).collect();
    if rows.is_empty() {
        return "no model is on the disk; -hf USER/REPO fetches one".into();
    }
    let titles = ["NAME", "SIZE", "QUANT", "ARCHITECTURE", "PATH"].map(str::to_owned);
    let rows = [vec![titles], rows].concat();
    let widths =
        [0, 1, 2, 3].map(|i| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0));
    let line = |[name, size, quantisation, arch, path]: &[String; 5]| {
        let [a, b, c, d] = widths;
        format!("{name:a$}  {size:>b$}  {quantisation:c$}  {arch:d$}  {path}")
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn row(model: &LocalModel) -> [String; 5] {
    let shown = |text: &str| Printable(text).to_string();
    let (quantisation, arch) = match hub::header(&model.path) {
        Ok(Header { arch, quantisation, can_run: true }) => (quantisation, shown(&arch)),
        Ok(Header { arch, quantisation, .. }) => {
            (quantisation, format!("{} (cannot be run)", shown(&arch)))
        }
        Err(error) => {
            // The line names the file, which stands beside it.
            let line = words::line(&error);
            let file = format!("{}: ", Printable(&model.path.display().to_string()));
            (UNKNOWN.into(), format!("broken: {}", line.strip_prefix(&file).unwrap_or(&line)))
        }
    };
    let path = shown(&model.path.display().to_string());
    [shown(&model.name), human_bytes(model.bytes()), quantisation, arch, path]
}
