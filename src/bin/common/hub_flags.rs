//! Flags of models that are fetched, and names of models on the disk.

use crate::download_bar::{DownloadBar, Note};
use crate::words;
use clap::Args;
use dovetail::hub::{self, Fetched, FileChoice, Repo, Token};
use dovetail::setting::{Advice, Setting};
use dovetail::{Error, Result};
use std::convert::Infallible;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Model")]
pub struct HubFlags {
    /// Fetch the model from this repository of Hugging Face's hub, unless it is there already, and use it. QUANT is a
    /// part of the file's name; without it Q4_K_M, Q8_0 or the first model. Files lie in the cache of Hugging Face's
    /// programs [-hf, -hfr]
    #[arg(long, value_name = "USER/REPO[:QUANT]")]
    pub hf_repo: Option<Repo>,
    /// The file of -hf to use, in place of QUANT [-hff]
    #[arg(long, value_name = "FILE", requires = "hf_repo")]
    hf_file: Option<String>,
    /// The token of -hf, which the hub may ask for; by default HF_TOKEN, or that of Hugging Face's login [-hft]
    #[arg(long, value_name = "TOKEN", value_parser = token)]
    hf_token: Option<Token>,
    /// Ask no hub: -hf uses what was fetched earlier; HF_HUB_OFFLINE=1 is the same
    #[arg(long, env = "DOVETAIL_OFFLINE", value_parser = words::switch)]
    offline: bool,
}

/// Takes any text: what clap refuses it quotes, and a token is a secret.
fn token(text: &str) -> std::result::Result<Token, Infallible> {
    Ok(text.into())
}

impl HubFlags {
    /// The file of the model that a flag or an argument names; `None` if neither does. A repository is fetched first; of
    /// what is no file, the name is looked for among the models on the disk.
    ///
    /// # Errors
    /// If the model cannot be fetched, or is nowhere.
    pub fn model(&self, named: Option<&Path>, note: Note) -> Result<Option<Fetched>> {
        match (&self.hf_repo, named) {
            (Some(repo), _) => {
                let choice = FileChoice { file: self.hf_file.as_deref(), drafter: false };
                self.fetch(repo, choice, note).map(Some)
            }
            (None, Some(named)) => {
                let path = on_disk(named)?;
                Ok(Some(Fetched { path, drafters: Vec::new() }))
            }
            (None, None) => Ok(None),
        }
    }

    /// Fetches a model or a drafter, as the flags say.
    ///
    /// # Errors
    /// If it cannot be fetched.
    pub fn fetch(&self, repo: &Repo, choice: FileChoice, note: Note) -> Result<Fetched> {
        let mut options = hub::Options::from_env(&variable)?;
        options.token = self.hf_token.clone().or(options.token);
        options.offline |= self.offline;
        let mut bar = DownloadBar::new(note);
        hub::fetch(repo, choice, &options, &mut |event| {
            bar.show(event);
            true
        })
    }
}

/// A file, or the model on the disk that has this name.
fn on_disk(named: &Path) -> Result<PathBuf> {
    let nowhere = || Error::Hub {
        subject: named.display().to_string(),
        what: "no such file, and no model on the disk has this name".into(),
        advice: vec![
            Advice::See(Setting::ModelList),
            Advice::Do("fetch one with -hf USER/REPO".into()),
        ],
    };
    // A file that cannot be looked at is no name: opening it says why.
    if !matches!(named.try_exists(), Ok(false)) {
        return Ok(named.to_owned());
    }
    let name = named.to_str().ok_or_else(nowhere)?;
    hub::find(name, &hub::models(&hub::folders(&variable)))?.ok_or_else(nowhere)
}

/// A variable of the environment.
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}
