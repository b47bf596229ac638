//! Multi-letter flags behind one dash.
//!
//! clap reads `-ngl 99` as `-n gl`. So such flags are replaced by their long names before clap sees
//! them, wherever a flag and not a flag's value stands, and unknown ones are refused: `-mx` is no
//! model named `x`. To add one: a row in [`LONG`].

use std::ffi::OsString;

/// What is typed and the long name clap knows.
const LONG: &[(&str, &str)] = &[
    ("-co", "--color"),
    ("-ctk", "--cache-type-k"),
    ("-ctv", "--cache-type-v"),
    ("-hf", "--hf-repo"),
    ("-md", "--model-draft"),
    ("-ngl", "--gpu-layers"),
    ("-no-cnv", "--raw"),
    ("-nr", "--no-repack"),
    ("-st", "--single-turn"),
    ("-sys", "--system-prompt"),
    ("-tb", "--threads-batch"),
    ("-ub", "--ubatch-size"),
];

/// The arguments with long names in place of those of the table.
///
/// # Errors
/// The first flag of several letters that is not in the table.
pub fn rewrite(
    argv: impl IntoIterator<Item = OsString>,
    command: &clap::Command,
) -> Result<Vec<OsString>, String> {
    let mut argv = argv.into_iter();
    let mut out: Vec<OsString> = argv.next().into_iter().collect();
    while let Some(arg) = argv.next() {
        if arg == "--" {
            out.push(arg);
            break;
        }
        let long =
            LONG.iter().find(|(typed, _)| arg == *typed).map(|(_, long)| OsString::from(long));
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

/// Whether this is exactly the name of a flag whose value is the next argument.
fn takes_value(command: &clap::Command, arg: &OsString) -> bool {
    command.get_arguments().filter(|known| known.get_action().takes_values()).any(|known| {
        let short = known.get_short().map(|name| format!("-{name}"));
        let longs = known.get_long_and_visible_aliases().unwrap_or_default();
        short.is_some_and(|name| arg == name.as_str())
            || longs.iter().any(|name| *arg == *format!("--{name}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Args;
    use clap::CommandFactory;

    fn rewritten(args: &[&str]) -> Result<Vec<String>, String> {
        let argv = std::iter::once("dovetail-run").chain(args.iter().copied()).map(OsString::from);
        let out = rewrite(argv, &Args::command())?;
        Ok(out.into_iter().skip(1).map(|arg| arg.into_string().unwrap()).collect())
    }

    #[test]
    fn every_row_names_a_flag() {
        let command = Args::command();
        for (typed, long) in LONG {
            let known = command.get_arguments().any(|a| a.get_long() == long.strip_prefix("--"));
            assert!(known, "{typed} stands for {long}, which is no flag");
        }
    }

    #[test]
    fn flags_are_replaced_and_values_are_not() {
        for (typed, expected) in [
            (&["-ngl", "99"][..], &["--gpu-layers", "99"][..]),
            (&["m.gguf", "-st", "-co"], &["m.gguf", "--single-turn", "--color"]),
            (&["-p", "-st", "-st"], &["-p", "-st", "--single-turn"]),
            (&["-sys", "-co", "-ub", "7"], &["--system-prompt", "-co", "--ubatch-size", "7"]),
            (&["--prompt", "-hf"], &["--prompt", "-hf"]),
            (&["--prompt=a", "-tb", "2"], &["--prompt=a", "--threads-batch", "2"]),
            (&["-t4", "-ctk", "f16"], &["-t4", "--cache-type-k", "f16"]),
            (&["--", "-st"], &["--", "-st"]),
            (&["-p"], &["-p"]),
        ] {
            assert_eq!(rewritten(typed).unwrap(), expected);
        }
        for typed in [&["-mx", "x"][..], &["-p", "a", "-cnv"], &["-ev"]] {
            assert!(rewritten(typed).unwrap_err().contains("is no flag"), "{typed:?}");
        }
    }
}
