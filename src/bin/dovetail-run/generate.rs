//! The man page and shell completions, generated from the flags.

use clap::{Command, ValueEnum};
use clap_complete::Shell;
use dovetail::{Error, Result};

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
                let command = command.version(env!("CARGO_PKG_VERSION"));
                let written = clap_mangen::Man::new(command).render(&mut out);
                written.map_err(|error| Error::Invalid(format!("no man page: {error}")))?;
            }
        }
        Ok(String::from_utf8_lossy(&out).trim_end().to_owned())
    }
}
