//! `strftime_now`: the local time as Python's `datetime.now().strftime` writes it.

use std::fmt::Write;

use jiff::ZonedDateTime;
use jiff::civil::DateTime;
use jiff::fmt::strtime::{BrokenDownTime, Config, PosixCustom};
use jiff::tz::TimeZone;

/// The conversions that glibc and jiff share.
const CONVERSIONS: &str = "aAbBcCdDeFgGhHIjklmMnpPrRsStTuUVwWxXyY%";
/// Flags and widths of conversions.
const OPTIONS: &str = "_-0^#:123456789";

/// A time in this format. Its zone is not known, as in Python; what is no conversion is written as it is.
pub fn strftime(format: &str, at: DateTime) -> String {
    let mut out = String::new();
    let mut rest = format;
    while let Some(percent) = rest.find('%') {
        out.push_str(&rest[..percent]);
        let behind = rest[percent + 1..].trim_start_matches(|c| OPTIONS.contains(c));
        let options = &rest[percent + 1..rest.len() - behind.len()];
        // `E` and `O` ask for the calendar and the digits of a language, which are these.
        let behind = behind.strip_prefix(['E', 'O']).unwrap_or(behind);
        let kind = behind.chars().next();
        let behind = &behind[kind.map_or(0, char::len_utf8)..];
        match kind {
            Some('Z' | 'z') => {}
            // Writing to a String cannot fail.
            Some('f') => drop(write!(out, "{:06}", at.subsec_nanosecond() / 1000)),
            _ => {
                let written = &rest[percent..rest.len() - behind.len()];
                let text = kind.and_then(|kind| conversion(options, kind, at));
                out.push_str(text.as_deref().unwrap_or(written));
            }
        }
        rest = behind;
    }
    out.push_str(rest);
    out
}

/// One conversion; `None` if there is no such.
fn conversion(options: &str, kind: char, at: DateTime) -> Option<String> {
    if !CONVERSIONS.contains(kind) {
        return None;
    }
    let time = match kind {
        's' => BrokenDownTime::from(&zoned(at)?),
        _ => BrokenDownTime::from(at),
    };
    let config = Config::new().custom(PosixCustom::new());
    time.to_string_with_config(&config, format!("%{options}{kind}")).ok()
}

/// A local time with the zone of this machine.
fn zoned(at: DateTime) -> Option<ZonedDateTime> {
    at.to_zoned_datetime(TimeZone::system()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_of_the_epoch_are_those_of_the_local_time() {
        let at = jiff::civil::date(2024, 2, 5).at(15, 4, 9, 0);
        let seconds: i64 = strftime("%s", at).parse().unwrap();
        let utc = at.to_zoned_datetime(TimeZone::UTC).unwrap().timestamp().as_second();
        let offset = zoned(at).unwrap().offset().seconds();
        assert_eq!(seconds, utc - i64::from(offset));
    }

    #[test]
    fn a_format_is_written_whatever_it_says() {
        let at = jiff::civil::date(9999, 12, 31).at(23, 59, 59, 999_999_999);
        for format in ["%", "%-", "%E", "%é", "%999999Y", "%%%", "%-_0^#d", "%:%", "%:::z%"] {
            strftime(format, at);
        }
        assert_eq!(strftime("é%é%", at), "é%é%");
    }
}
