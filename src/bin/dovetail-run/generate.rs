//! The man page and shell completions, generated from the flags.

use crate::commands::COMMANDS;
use clap::{Command, ValueEnum};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use dovetail::{Error, Result};
use std::io::Write;

/// What can be generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Generate {
    /// For `man`
    Man,
    /// For a file that bash reads
    Bash,
    /// For a file `_dovetail-run` where zsh looks for functions
    Zsh,
    /// For fish
    Fish,
    /// For PowerShell
    Powershell,
    /// For Elvish
    Elvish,
}

impl Generate {
    /// The text for these flags.
    ///
    /// # Errors
    /// If it cannot be generated.
    pub fn text(self, mut command: Command) -> Result<String> {
        let mut out = Vec::new();
        let name = command.get_name().to_owned();
        let shell = match self {
            Generate::Man => None,
            Generate::Bash => Some(Shell::Bash),
            Generate::Zsh => Some(Shell::Zsh),
            Generate::Fish => Some(Shell::Fish),
            Generate::Powershell => Some(Shell::PowerShell),
            Generate::Elvish => Some(Shell::Elvish),
        };
        match shell {
            Some(shell) => clap_complete::generate(shell, &mut command, name, &mut out),
            None => {
                let written = man(command.version(env!("CARGO_PKG_VERSION")), &mut out);
                written.map_err(|error| Error::Invalid(format!("no man page: {error}")))?;
            }
        }
        Ok(String::from_utf8_lossy(&out).trim_end().to_owned())
    }
}

const EXIT_STATUS: &[(&str, &str)] = &[
    ("0", "The answer is complete."),
    ("1", "The model or the machine cannot do it."),
    ("2", "The command has a mistake."),
    ("130", "Ctrl-C ended it."),
];

const FILES: &[(&str, &str)] = &[
    (
        "$DOVETAIL_CACHE, $XDG_CACHE_HOME/dovetail or ~/.cache/dovetail",
        "The cache directory: the default model, drafters (drafters), packed weights (packed), and what passes cost \
         (measured). All but the first two can be deleted at any time.",
    ),
    (
        "$XDG_STATE_HOME/dovetail/history or ~/.local/state/dovetail/history",
        "What was typed in chats, which its owner alone can read; --no-history leaves it alone.",
    ),
];

const EXAMPLES: &[(&str, &str)] = &[
    ("dovetail-run model.gguf", "A chat on the terminal."),
    ("dovetail-run model.gguf -p \"Why is the sky blue?\"", "One answer."),
    (
        "git diff | dovetail-run model.gguf -p \"Write a commit message for this diff.\"",
        "One answer about what is piped in.",
    ),
    (
        "dovetail-run model.gguf --parallel 8 -f prompts.jsonl > answers.jsonl",
        "The answers to a file of prompts, eight at once.",
    ),
    ("dovetail-run model.gguf -md drafter.gguf -v", "With a drafter, and a report on it."),
];

/// Writes the man page.
fn man(command: Command, out: &mut dyn Write) -> std::io::Result<()> {
    let man = Man::new(command);
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    man.render_description_section(out)?;
    man.render_options_section(out)?;
    let commands = COMMANDS.iter().map(|command| (command.usage(), command.what));
    section("CHAT COMMANDS", commands, out)?;
    for (name, entries) in [("EXIT STATUS", EXIT_STATUS), ("FILES", FILES), ("EXAMPLES", EXAMPLES)]
    {
        section(name, entries.iter().map(|(term, what)| ((*term).to_owned(), *what)), out)?;
    }
    man.render_version_section(out)
}

/// Writes a section: terms, each with its description.
fn section<'a>(
    name: &str,
    entries: impl Iterator<Item = (String, &'a str)>,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", [name]);
    for (term, what) in entries {
        roff.control("TP", []);
        roff.text([bold(term)]);
        roff.text([roman(what)]);
    }
    roff.to_writer(out)
}
