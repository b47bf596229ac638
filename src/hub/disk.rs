//! Models that lie on the disk already: those of this program, of llama.cpp, Ollama, LM Studio and Hugging Face's programs.
//!
//! A model has a name, by which it can be run: `NAME:TAG` as Ollama calls it, `USER/REPO:QUANT` if it is from a hub, else
//! the name of its file. To add a program: its folders in [`folders`], and a [`Layout`] if it has one of its own.

use super::api::is_hex;
use super::cache::{self, RepoCache};
use super::choose::{self, FileChoice};
use super::repo::Repo;
use crate::error::{Error, Result};
use crate::file;
use crate::setting::{Advice, Setting};
use serde::Deserialize;
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// The hub of Ollama, and the user there whom names leave out.
const OLLAMA_HUB: &str = "registry.ollama.ai";
const OLLAMA_USER: &str = "library";
/// The type of a model among the layers of an Ollama manifest.
const OLLAMA_MODEL: &str = "application/vnd.ollama.image.model";
/// Longer manifests are none.
const MANIFEST_MAX_BYTES: u64 = 1 << 20;

/// A model on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalModel {
    /// Its name.
    pub name: String,
    /// Its first file.
    pub path: PathBuf,
    /// The repository that it is from.
    repo: Option<Repo>,
    /// Its path in the repository, or the name of its file.
    file: String,
}

/// How a program lays out its models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Files in one folder.
    Flat,
    /// `USER/REPO/FILE`.
    Repos,
    /// See `cache.rs`.
    Hub,
    /// Manifests that name blobs.
    Ollama,
}

/// A folder of models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// Its layout.
    pub layout: Layout,
    /// Its place.
    pub path: PathBuf,
}

/// The folders where programs keep models, by variables of the environment; this program's first.
pub fn folders(variable: &dyn Fn(&str) -> Option<OsString>) -> Vec<Folder> {
    let set = |name| cache::path_variable(variable, name);
    let home = |path: &str| Some(set("HOME")?.join(path));
    let caches = set("XDG_CACHE_HOME").or_else(|| home(".cache"));
    let in_caches = |path: &str| Some(caches.as_ref()?.join(path));
    let llama_cpp = set("LLAMA_CACHE").or_else(|| in_caches("llama.cpp"));
    let ours = set("DOVETAIL_CACHE").or_else(|| in_caches("dovetail"));
    let all = [
        (Layout::Flat, ours),
        (Layout::Hub, cache::folder(variable)),
        (Layout::Flat, llama_cpp.clone()),
        (Layout::Hub, llama_cpp),
        (Layout::Ollama, set("OLLAMA_MODELS").or_else(|| home(".ollama/models"))),
        (Layout::Ollama, Some("/usr/share/ollama/.ollama/models".into())),
        (Layout::Repos, home(".lmstudio/models")),
        (Layout::Repos, home(".cache/lm-studio/models")),
    ];
    all.into_iter().filter_map(|(layout, path)| Some(Folder { layout, path: path? })).collect()
}

/// The models in some folders; the names of all are different.
pub fn models(folders: &[Folder]) -> Vec<LocalModel> {
    let mut names = HashSet::new();
    let mut all = Vec::new();
    for folder in folders {
        let mut found = match folder.layout {
            Layout::Flat => flat(&folder.path),
            Layout::Repos => repos(&folder.path),
            Layout::Hub => hub(&folder.path),
            Layout::Ollama => ollama(&folder.path),
        };
        found.sort_by(|a, b| a.name.cmp(&b.name));
        for mut model in found {
            if !names.insert(model.name.to_lowercase()) {
                if all.iter().any(|known: &LocalModel| known.path == model.path) {
                    continue;
                }
                // A name that no other has.
                model.name = model.path.display().to_string();
            }
            all.push(model);
        }
    }
    all
}

/// The file of the model with this name; `None` if there is none. `NAME` is `NAME:latest`, and `USER/REPO` one of the
/// models of a repository.
///
/// # Errors
/// If a repository is there, but not the model that was asked for.
pub fn find(name: &str, models: &[LocalModel]) -> Result<Option<PathBuf>> {
    let latest = format!("{name}:latest");
    let is_it = |model: &&LocalModel| {
        let file = model.file.strip_suffix(".gguf").unwrap_or(&model.file);
        let mut names =
            [(name, &*model.name), (&latest, &model.name), (name, file), (name, &model.file)]
                .into_iter();
        names.any(|(asked, name)| asked.eq_ignore_ascii_case(name))
    };
    if let Some(model) = models.iter().find(is_it) {
        return Ok(Some(model.path.clone()));
    }
    let Ok(repo) = name.parse::<Repo>() else { return Ok(None) };
    let is_of_it = |model: &&LocalModel| {
        model.repo.as_ref().is_some_and(|of| of.id().eq_ignore_ascii_case(&repo.id()))
    };
    let files: Vec<_> = models.iter().filter(is_of_it).collect();
    if files.is_empty() {
        return Ok(None);
    }
    let paths: Vec<_> = files.iter().map(|model| choose::part_paths(&model.file)).collect();
    let all: Vec<_> = paths.iter().flatten().map(String::as_str).collect();
    let chosen =
        choose::choose(&all, repo.tag(), FileChoice::default()).map_err(|what| Error::Hub {
            subject: format!("{} on the disk", repo.id()),
            what,
            advice: vec![Advice::See(Setting::ModelList)],
        })?;
    let first = all[chosen[0]];
    Ok(files.iter().find(|model| model.file == first).map(|model| model.path.clone()))
}

impl LocalModel {
    /// Bytes of all its files; 0 where they are missing.
    pub fn bytes(&self) -> u64 {
        let parts = match self.path.to_str() {
            Some(path) => choose::part_paths(path).into_iter().map(PathBuf::from).collect(),
            None => vec![self.path.clone()],
        };
        parts.iter().map(|part| fs::metadata(part).map_or(0, |about| about.len())).sum()
    }

    /// The model in a file by itself.
    fn of_file(path: PathBuf) -> Option<LocalModel> {
        let file = path.file_name()?.to_str()?.to_owned();
        let name = choose::stem(&file).to_owned();
        choose::is_model(&file).then_some(LocalModel { name, path, repo: None, file })
    }

    /// The model in a file of a repository.
    fn of_repo(repo: &Repo, path: PathBuf, file: String) -> Option<LocalModel> {
        let name = match choose::tag(&file) {
            Some(tag) => format!("{}:{tag}", repo.id()),
            None => format!("{}/{}", repo.id(), choose::stem(&file)),
        };
        choose::is_model(&file).then(|| LocalModel { name, path, repo: Some(repo.clone()), file })
    }
}

/// What a folder holds, by names that are text, sorted.
fn entries(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let named =
        entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())));
    let mut named: Vec<_> = named.collect();
    named.sort();
    named
}

fn flat(folder: &Path) -> Vec<LocalModel> {
    let files = entries(folder).into_iter().filter(|(_, path)| !path.is_dir());
    files.filter_map(|(_, path)| LocalModel::of_file(path)).collect()
}

fn repos(folder: &Path) -> Vec<LocalModel> {
    let mut found = Vec::new();
    for (user, of_user) in entries(folder) {
        for (name, of_repo) in entries(&of_user) {
            let Ok(repo) = format!("{user}/{name}").parse::<Repo>() else { continue };
            let files = entries(&of_repo).into_iter();
            found.extend(files.filter_map(|(file, path)| LocalModel::of_repo(&repo, path, file)));
        }
    }
    found
}

fn hub(folder: &Path) -> Vec<LocalModel> {
    let mut found = Vec::new();
    for (name, _) in entries(folder) {
        let Some(repo) = Repo::of_folder(&name) else { continue };
        let files = RepoCache::new(folder, &repo).files().into_iter();
        found.extend(files.filter_map(|(file, path)| LocalModel::of_repo(&repo, path, file)));
    }
    found
}

/// A manifest of Ollama.
#[derive(Deserialize)]
struct Manifest {
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
struct Layer {
    #[serde(rename = "mediaType")]
    media_type: String,
    digest: String,
}

/// Manifests lie at `manifests/HUB/USER/NAME/TAG`.
fn ollama(folder: &Path) -> Vec<LocalModel> {
    let mut found = Vec::new();
    for (hub, of_hub) in entries(&folder.join("manifests")) {
        for (user, of_user) in entries(&of_hub) {
            for (name, of_name) in entries(&of_user) {
                for (tag, manifest) in entries(&of_name) {
                    let Some(path) = ollama_model(folder, &manifest) else { continue };
                    let name = match (&*hub, &*user) {
                        (OLLAMA_HUB, OLLAMA_USER) => format!("{name}:{tag}"),
                        (OLLAMA_HUB, user) => format!("{user}/{name}:{tag}"),
                        (hub, user) => format!("{hub}/{user}/{name}:{tag}"),
                    };
                    found.push(LocalModel { file: name.clone(), name, path, repo: None });
                }
            }
        }
    }
    found
}

/// The file of the model that a manifest names.
fn ollama_model(folder: &Path, manifest: &Path) -> Option<PathBuf> {
    if fs::metadata(manifest).ok()?.len() > MANIFEST_MAX_BYTES {
        return None;
    }
    let manifest: Manifest = serde_json::from_slice(&file::read(manifest).ok()?).ok()?;
    let model = manifest.layers.into_iter().find(|layer| layer.media_type == OLLAMA_MODEL)?;
    let digest = model.digest.strip_prefix("sha256:").filter(|digest| is_hex(digest, 64))?;
    Some(folder.join("blobs").join(format!("sha256-{digest}")))
}
