//! A line that says how far a transfer of bytes is.

use dovetail::machine::human_bytes;
use dovetail::printable::Printable;
use std::time::Duration;

/// Width of the line, for terminals of 80 columns.
const COLUMNS: usize = 79;

/// `NAME  45 %  1.20 GB of 2.67 GB  35.0 MB/s  0:42 left`; the bytes that came in some time say how fast it is.
pub fn progress_line(name: &str, done: u64, total: u64, (came, time): (u64, Duration)) -> String {
    let rate = came as f64 / time.as_secs_f64().max(1e-3);
    let left = ((total - done) as f64 / rate.max(1.0)) as u64;
    let (minutes, seconds) = (left / 60, left % 60);
    let percent = 100 * u128::from(done) / u128::from(total.max(1));
    let numbers = format!(
        "  {percent} %  {} of {}  {}/s  {minutes}:{seconds:02} left",
        human_bytes(done),
        human_bytes(total),
        human_bytes(rate as u64)
    );
    let name = Printable(name).to_string();
    let room = COLUMNS.saturating_sub(numbers.chars().count());
    match name.chars().count() <= room {
        true => name + &numbers,
        false => {
            name.chars().take(room.saturating_sub(1)).chain(['…']).collect::<String>() + &numbers
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_fits_a_terminal_and_steers_none() {
        let came = (100_000_000, Duration::from_secs(2));
        let expected = "m.gguf  45 %  1.20 GB of 2.65 GB  50.0 MB/s  0:29 left";
        assert_eq!(progress_line("m.gguf", 1_200_000_000, 2_650_000_000, came), expected);
        let long = progress_line(&"x".repeat(300), 1, u64::MAX, (0, Duration::ZERO));
        assert!(long.chars().count() <= COLUMNS && long.contains("…  0 %"), "{long}");
        assert!(!progress_line("a\x1b[2J.gguf", 1, 2, came).contains('\x1b'));
    }
}
