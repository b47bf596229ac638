//! Multi-letter flags after one dash.
//!
//! clap reads `-ngl 99` as `-n gl`. So such flags are replaced by their long names before clap sees them, except where
//! they are the value of a flag. Unknown ones are refused: `-mx` is not a model named `x`.

use std::ffi::OsString;

/// Replaces the flags of the table, pairs of the typed and the long name, by their long names.
///
/// # Errors
/// The first flag of several letters that is not in the table.
pub fn rewrite(
    argv: impl IntoIterator<Item = OsString>,
    command: &clap::Command,
    table: &[(&str, &str)],
) -> Result<Vec<OsString>, String> {
    let mut argv = argv.into_iter();
    let mut out: Vec<OsString> = argv.next().into_iter().collect();
    while let Some(arg) = argv.next() {
        if arg == "--" {
            out.push(arg);
            break;
        }
        let long =
            table.iter().find(|(typed, _)| arg == *typed).map(|(_, long)| OsString::from(long));
        if let (None, Some(text)) = (&long, arg.to_str())
            && text.strip_prefix('-').is_some_and(begins_with_two_letters)
        {
            return Err(format!("{text} is no flag of this program; see --help"));
        }
        let arg = long.unwrap_or(arg);
        let value = takes_value(command, &arg).then(|| argv.next()).flatten();
        out.push(arg);
        out.extend(value);
    }
    out.extend(argv);
    Ok(out)
}

fn begins_with_two_letters(text: &str) -> bool {
    text.len() >= 2 && text.bytes().take(2).all(|b| b.is_ascii_alphabetic())
}

/// Whether this is exactly the name of a flag that takes the next argument as its value.
pub fn takes_value(command: &clap::Command, arg: &OsString) -> bool {
    let of_subcommands = command.get_subcommands().flat_map(|command| command.get_arguments());
    let known = command.get_arguments().chain(of_subcommands);
    known.filter(|known| known.get_action().takes_values()).any(|known| {
        let short = known.get_short().map(|name| format!("-{name}"));
        let longs = known.get_long_and_visible_aliases().unwrap_or_default();
        short.is_some_and(|name| arg == name.as_str())
            || longs.iter().any(|name| *arg == *format!("--{name}"))
    })
}
