//! Which files of a repository or a folder are the model, as llama.cpp chooses them.
//!
//! - The quantisation that was asked for, `Q4_K_M` or else `Q8_0` if none was, is looked for in the names.
//! - If none was asked for and neither is there, the first model is taken.
//! - Drafters, vision parts and importance matrices are no models.
//! - Of a model in several files all are taken.

use crate::draft;

/// The quantisations that are tried if none was asked for.
const DEFAULT_TAGS: [&str; 2] = ["Q4_K_M", "Q8_0"];
/// Most names in an error.
const LISTED_MAX: usize = 8;
/// Most files of one model.
const PARTS_MAX: usize = 1000;

/// Which of a repository's files is taken. By default the model of the quantisation that the repository's name asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileChoice<'a> {
    /// A file, by its path. The quantisation then does not count.
    pub file: Option<&'a str>,
    /// A drafter is preferred to a model.
    pub drafter: bool,
}

/// The places of the chosen model's files in `paths`, in order: at least one. `tag` is the quantisation that was asked for.
///
/// # Errors
/// What is wrong, with the names that there are.
pub fn choose(paths: &[&str], tag: Option<&str>, choice: FileChoice) -> Result<Vec<usize>, String> {
    let first = match (choice.file, tag) {
        (Some(file), _) => named(paths, file)?,
        (None, tag) => {
            let models = candidates(paths, choice.drafter);
            let tags = tag.as_ref().map_or(&DEFAULT_TAGS[..], std::slice::from_ref);
            let tagged = tags.iter().find_map(|tag| best(paths, &models, tag));
            match tagged {
                Some(found) => found?,
                None => match (tag, models.first()) {
                    (None, Some(first)) => *first,
                    (Some(tag), _) => return Err(nothing(&format!("model {tag}"), paths)),
                    (None, None) => return Err(nothing("model", paths)),
                },
            }
        }
    };
    parts(paths, first)
}

/// Drafters among files, of kinds that can be run.
pub fn drafters<'a>(paths: &[&'a str]) -> Vec<&'a str> {
    let is_drafter = |path: &&&str| is_gguf(path) && draft::is_drafter_to_run(file_name(path));
    paths.iter().filter(is_drafter).copied().collect()
}

/// Whether a file is a model by its name, and not the second or a later part of one.
pub fn is_model(path: &str) -> bool {
    let name = file_name(path).to_ascii_lowercase();
    let other = ["mmproj", "imatrix", "dspark-"].iter().any(|word| name.contains(word));
    is_gguf(path) && !other && !draft::is_drafter_name(&name) && is_first(path)
}

/// The model's name without `.gguf` and without which part it is.
pub fn stem(path: &str) -> &str {
    let name = without_ending(file_name(path));
    split(path).map_or(name, |split| file_name(split.stem))
}

/// The quantisation in a model's name: what stands behind the last `-` or `.`.
pub fn tag(path: &str) -> Option<&str> {
    let (_, tag) = stem(path).rsplit_once(['-', '.'])?;
    let is_tag = tag.contains(|c: char| c.is_ascii_digit())
        && tag.starts_with(|c: char| "QqFfBbIiMmTt".contains(c));
    is_tag.then_some(tag)
}

/// The paths of all parts of a model, from that of the first.
pub fn part_paths(path: &str) -> Vec<String> {
    match split(path) {
        Some(Split { stem, n_parts, .. }) => {
            (1..=n_parts).map(|part| format!("{stem}-{part:05}-of-{n_parts:05}.gguf")).collect()
        }
        None => vec![path.to_owned()],
    }
}

/// `STEM-00001-of-00003.gguf`: `part` is one of the `n_parts`, which are at most [`PARTS_MAX`].
struct Split<'a> {
    stem: &'a str,
    part: usize,
    n_parts: usize,
}

fn split(path: &str) -> Option<Split<'_>> {
    let (rest, n_parts) = without_ending(path).rsplit_once("-of-")?;
    let (stem, part) = rest.rsplit_once('-')?;
    let number = |text: &str| {
        let is_number = text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse().ok()).flatten()
    };
    let (part, n_parts) = (number(part)?, number(n_parts)?);
    let fits = (1..=n_parts).contains(&part) && n_parts <= PARTS_MAX;
    fits.then_some(Split { stem, part, n_parts })
}

fn is_first(path: &str) -> bool {
    split(path).is_none_or(|split| split.part == 1)
}

fn is_gguf(path: &str) -> bool {
    without_ending(path).len() < path.len()
}

fn without_ending(path: &str) -> &str {
    path.strip_suffix(".gguf").unwrap_or(path)
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The file with this path; of a model in several files the first part, whichever was named.
fn named(paths: &[&str], file: &str) -> Result<usize, String> {
    let is_it = |path: &&str| path.eq_ignore_ascii_case(file);
    let found =
        paths.iter().position(is_it).ok_or_else(|| nothing(&format!("file {file}"), paths))?;
    let first = part_paths(paths[found]).swap_remove(0);
    Ok(paths.iter().position(|path| **path == first).unwrap_or(found))
}

/// The models, or with `drafter` the drafters if there are some.
fn candidates(paths: &[&str], drafter: bool) -> Vec<usize> {
    let all = |keep: &dyn Fn(&str) -> bool| -> Vec<usize> {
        (0..paths.len()).filter(|i| keep(paths[*i])).collect()
    };
    let drafters =
        all(&|path| is_gguf(path) && is_first(path) && draft::is_drafter_name(file_name(path)));
    match drafter && !drafters.is_empty() {
        true => drafters,
        false => all(&is_model),
    }
}

/// The model with this quantisation in its name: best as a whole word, in few folders, at the end of the name. `None` if
/// there is none.
fn best(paths: &[&str], models: &[usize], tag: &str) -> Option<Result<usize, String>> {
    let ranked = models.iter().filter_map(|i| Some((rank(paths[*i], tag)?, *i)));
    let ranked: Vec<_> = ranked.collect();
    let least = ranked.iter().map(|(rank, _)| *rank).min()?;
    let best: Vec<_> = ranked.iter().filter(|(rank, _)| *rank == least).map(|(_, i)| *i).collect();
    Some(match best[..] {
        [one] => Ok(one),
        _ => {
            let names: Vec<_> = best.iter().map(|i| paths[*i]).collect();
            Err(format!("{} models are {tag}: {}", names.len(), listed(&names)))
        }
    })
}

/// How well a path fits a quantisation, less is better: (part of a longer word, number of folders, something follows).
fn rank(path: &str, tag: &str) -> Option<(bool, usize, bool)> {
    let (path, tag) = (path.to_ascii_lowercase(), tag.to_ascii_lowercase());
    let fits = path.match_indices(&tag).filter_map(|(at, _)| {
        let (before, after) = (&path[..at], &path[at + tag.len()..]);
        let is_inside = before.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        let ends =
            split(&path).map_or(after == ".gguf", |split| at + tag.len() == split.stem.len());
        after.starts_with(['.', '-']).then(|| (is_inside, path.matches('/').count(), !ends))
    });
    fits.min()
}

/// All parts of the model whose first file this is.
fn parts(paths: &[&str], first: usize) -> Result<Vec<usize>, String> {
    let place = |part: &String| {
        let found = paths.iter().position(|path| path == part);
        found.ok_or_else(|| format!("{part} is missing, a part of the model"))
    };
    part_paths(paths[first]).iter().map(place).collect()
}

fn nothing(what: &str, paths: &[&str]) -> String {
    let there: Vec<_> =
        paths.iter().filter(|path| is_gguf(path) && is_first(path)).copied().collect();
    match there.is_empty() {
        true => format!("has no {what}, and no GGUF file at all"),
        false => format!("has no {what}; there are {}", listed(&there)),
    }
}

/// Names, as many as fit a line.
fn listed(names: &[&str]) -> String {
    let shown = names[..names.len().min(LISTED_MAX)].join(", ");
    match names.len().saturating_sub(LISTED_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: [&str; 9] = [
        "README.md",
        "big/m-IQ4_XS-00001-of-00002.gguf",
        "big/m-IQ4_XS-00002-of-00002.gguf",
        "eagle3-m-Q8_0.gguf",
        "m-Q4_0.gguf",
        "m-Q4_K_M.gguf",
        "m-UD-Q5_K_XL.gguf",
        "mmproj-m-F16.gguf",
        "mtp-m-Q4_K_M.gguf",
    ];

    fn chosen(files: &[&str], tag: Option<&str>, choice: FileChoice) -> Result<String, String> {
        let names: Vec<_> = choose(files, tag, choice)?.into_iter().map(|i| files[i]).collect();
        Ok(names.join(" "))
    }

    fn tagged(files: &[&str], tag: &str) -> Result<String, String> {
        chosen(files, (!tag.is_empty()).then_some(tag), FileChoice::default())
    }

    #[test]
    fn the_quantisation_is_found_in_the_names() {
        for (tag, expected) in [
            ("", "m-Q4_K_M.gguf"),
            ("q4_k_m", "m-Q4_K_M.gguf"),
            ("Q4_0", "m-Q4_0.gguf"),
            ("Q5_K_XL", "m-UD-Q5_K_XL.gguf"),
            ("iq4_xs", "big/m-IQ4_XS-00001-of-00002.gguf big/m-IQ4_XS-00002-of-00002.gguf"),
        ] {
            assert_eq!(tagged(&FILES, tag).unwrap(), expected, "{tag}");
        }
        assert_eq!(tagged(&["a-f16.gguf", "a-q8_0.gguf"], "").unwrap(), "a-q8_0.gguf");
        assert_eq!(tagged(&["mmproj.gguf", "b.gguf", "a.gguf"], "").unwrap(), "b.gguf");
        // A whole word, the upper folder, and the end of the name come first.
        for better in ["Q4_0.gguf", "m-Q4_0.gguf", "m.Q4_0-00001-of-00001.gguf"] {
            for worse in ["m-IQ4_0.gguf", "sub/m-Q4_0.gguf", "m-Q4_0-pure.gguf"] {
                assert_eq!(tagged(&[worse, better], "Q4_0").unwrap(), better);
            }
        }
    }

    #[test]
    fn a_file_is_found_by_its_path_with_all_its_parts() {
        let file =
            |file| chosen(&FILES, Some("Q4_0"), FileChoice { file: Some(file), drafter: false });
        assert_eq!(file("M-q4_k_m.gguf").unwrap(), "m-Q4_K_M.gguf");
        assert_eq!(file("mmproj-m-F16.gguf").unwrap(), "mmproj-m-F16.gguf");
        let both = "big/m-IQ4_XS-00001-of-00002.gguf big/m-IQ4_XS-00002-of-00002.gguf";
        assert_eq!(file("big/m-IQ4_XS-00002-of-00002.gguf").unwrap(), both);
        let wrong = file("m.gguf").unwrap_err();
        assert!(wrong.starts_with("has no file m.gguf; there are big/m-IQ4_XS-00001"), "{wrong}");
        let missing = tagged(&FILES[1..2], "IQ4_XS").unwrap_err();
        assert_eq!(missing, "big/m-IQ4_XS-00002-of-00002.gguf is missing, a part of the model");
    }

    #[test]
    fn what_cannot_be_chosen_is_said_with_what_there_is() {
        let wrong = tagged(&FILES, "Q2_K").unwrap_err();
        assert!(wrong.starts_with("has no model Q2_K; there are big/m-IQ4_XS-00001-of"), "{wrong}");
        assert!(!wrong.contains("00002-of") && !wrong.contains("README"), "{wrong}");
        assert_eq!(tagged(&["a.txt"], "").unwrap_err(), "has no model, and no GGUF file at all");
        let both = tagged(&["a-Q8_0.gguf", "b-Q8_0.gguf"], "").unwrap_err();
        assert_eq!(both, "2 models are Q8_0: a-Q8_0.gguf, b-Q8_0.gguf");
        let many: Vec<String> = (0..100).map(|i| format!("{i}.gguf")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(tagged(&many, "Q1").unwrap_err().ends_with("7.gguf and 92 more"));
    }

    /// Numbers of parts that cannot be, and more parts than anybody has, are a part of the name.
    #[test]
    fn impossible_numbers_of_parts_make_no_parts() {
        for name in ["00001-of-00000", "00000-of-00000", "00000-of-00002", "00003-of-00002"] {
            let path = format!("a-Q8_0-{name}.gguf");
            assert_eq!(part_paths(&path), [&*path], "{name}");
            assert_eq!(tagged(&[&path], "").as_ref(), Ok(&path), "{name}");
            let file = FileChoice { file: Some(&path), ..FileChoice::default() };
            assert_eq!(chosen(&[&path], None, file).as_ref(), Ok(&path), "{name}");
        }
        assert_eq!(
            tagged(&["a-Q8_0-00001-of-99999.gguf"], "").unwrap(),
            "a-Q8_0-00001-of-99999.gguf"
        );
    }

    #[test]
    fn drafters_are_no_models_and_are_found_if_asked_for() {
        assert_eq!(drafters(&FILES), ["eagle3-m-Q8_0.gguf"], "others cannot be run");
        let choice = FileChoice { drafter: true, ..FileChoice::default() };
        assert_eq!(chosen(&FILES[..4], None, choice).unwrap(), "eagle3-m-Q8_0.gguf");
        assert_eq!(chosen(&FILES[4..6], None, choice).unwrap(), "m-Q4_K_M.gguf");
        assert!(
            !is_model("sub/x-EAGLE3-q8_0.gguf") && !is_model("MTP-x.gguf") && is_model("x.gguf")
        );
    }

    #[test]
    fn names_have_a_stem_and_a_quantisation() {
        for (path, stem_, tag_) in [
            ("a/b-Q4_K_M.gguf", "b-Q4_K_M", Some("Q4_K_M")),
            ("m.Q4_1.gguf", "m.Q4_1", Some("Q4_1")),
            ("x-f16-00001-of-00002.gguf", "x-f16", Some("f16")),
            ("llama-7b.gguf", "llama-7b", None),
            ("plain.gguf", "plain", None),
        ] {
            assert_eq!((stem(path), tag(path)), (stem_, tag_), "{path}");
        }
    }
}
