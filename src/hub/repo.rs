//! Names of repositories: `USER/REPO`, or `USER/REPO:QUANT` for one of the models in it.

use std::fmt;
use std::str::FromStr;

/// Most bytes of a user's or a repository's name, as hubs allow.
const NAME_MAX_BYTES: usize = 96;
/// Most bytes of the name of a quantisation.
const TAG_MAX_BYTES: usize = 64;

/// What stands between the parts of a folder's name: two dashes.
const BETWEEN: &str = concat!('-', '-');

/// A repository, and one of its models. Its parts are safe as names of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repo {
    user: String,
    name: String,
    tag: Option<String>,
}

impl Repo {
    /// The quantisation that was asked for: `Q4_K_M`.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// `USER/REPO`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.user, self.name)
    }

    /// The name of its folder in a cache: `models--USER--REPO`.
    pub(super) fn folder(&self) -> String {
        ["models", &self.user, &self.name].join(BETWEEN)
    }

    /// The repository of a folder in a cache.
    pub(super) fn of_folder(folder: &str) -> Option<Repo> {
        let (kind, id) = folder.split_once(BETWEEN)?;
        let id = id.replacen(BETWEEN, "/", 1);
        id.parse().ok().filter(|_| kind == "models")
    }
}

impl fmt::Display for Repo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.user, self.name)?;
        self.tag.iter().try_for_each(|tag| write!(f, ":{tag}"))
    }
}

impl FromStr for Repo {
    type Err = String;

    fn from_str(text: &str) -> Result<Repo, String> {
        let wrong = || "give USER/REPO or USER/REPO:QUANT".to_owned();
        let (id, tag) = match text.split_once(':') {
            Some((id, tag)) => (id, Some(tag)),
            None => (text, None),
        };
        let (user, name) = id.split_once('/').ok_or_else(wrong)?;
        let fits = is_name(user) && is_name(name) && tag.is_none_or(is_tag);
        let [user, name] = [user, name].map(str::to_owned);
        fits.then(|| Repo { user, name, tag: tag.map(str::to_owned) }).ok_or_else(wrong)
    }
}

/// Whether a hub allows the name of a user or of a repository. `--` would make two of one folder's name.
fn is_name(text: &str) -> bool {
    (1..=NAME_MAX_BYTES).contains(&text.len())
        && text.chars().all(is_plain)
        && !text.starts_with(['.', '-'])
        && !text.ends_with(['.', '-'])
        && !text.contains("..")
        && !text.contains(BETWEEN)
}

fn is_tag(text: &str) -> bool {
    (1..=TAG_MAX_BYTES).contains(&text.len()) && text.chars().all(is_plain)
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for (text, id, tag) in [
            ("a/b", "a/b", None),
            ("user/Model-1.5_x:Q4_K_M", "user/Model-1.5_x", Some("Q4_K_M")),
            ("a/b:q8_0", "a/b", Some("q8_0")),
        ] {
            let repo: Repo = text.parse().unwrap();
            assert_eq!((&repo.id()[..], repo.tag(), repo.to_string()), (id, tag, text.into()));
            assert_eq!(Repo::of_folder(&repo.folder()).unwrap().id(), id);
        }
    }

    #[test]
    fn what_would_be_another_path_or_address_is_refused() {
        let long = format!("a/{}", "b".repeat(97));
        for text in [
            "", "a", "a/", "/b", "a/b/c", "../b", "a/..", "a/.b", "a/b.", "a/-b", "a--b/c",
            "a/b..c", "a/b:", "a/b:c/d", "a/b:c:d", "a b/c", "a/b?x", "a/b\n", "a\\b/c", "ü/b",
            &long,
        ] {
            assert!(text.parse::<Repo>().is_err(), "{text:?}");
        }
        for folder in ["a--b", "models--a", "models--a--b--c", "models--..--b", "datasets--a--b"] {
            assert_eq!(Repo::of_folder(folder), None, "{folder}");
        }
    }
}
