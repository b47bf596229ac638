//! What the documentation points at is there: files and headings behind links, prompt files in commands.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All pages, with their paths from the root.
fn pages() -> Vec<(PathBuf, String)> {
    let mut paths = Vec::new();
    for folder in [".", "docs", "models", "examples", "examples/c"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = Path::new(folder).join(entry.unwrap().file_name());
            if path.extension().is_some_and(|ending| ending == "md") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    assert!(paths.len() > 8, "{paths:?}");
    paths
        .into_iter()
        .map(|path| (path.clone(), fs::read_to_string(root().join(path)).unwrap()))
        .collect()
}

/// What is behind `](` and `src="`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = |start: &'static str, end: char| {
        text.split(start).skip(1).filter_map(move |rest| rest.split(end).next())
    };
    targets("](", ')').chain(targets("src=\"", '"'))
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(text: &str) -> Vec<String> {
    let mut seen = HashMap::new();
    let mut in_code = false;
    let mut anchors = Vec::new();
    for line in text.lines() {
        in_code ^= line.starts_with("```");
        let heading = line.trim_start_matches('#');
        if in_code || heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
        let anchor: String = heading.trim().to_lowercase().chars().filter(kept).collect();
        let anchor = anchor.replace(' ', "-");
        let n = seen.entry(anchor.clone()).or_insert(0);
        anchors.push(if *n == 0 { anchor.clone() } else { format!("{anchor}-{n}") });
        *n += 1;
    }
    anchors
}

#[test]
fn links_lead_to_files_and_headings() {
    let (mut n, mut dead) = (0, Vec::new());
    for (page, text) in pages() {
        for link in links(&text).filter(|link| !link.contains("://")) {
            n += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => root().join(&page),
                path => root().join(page.parent().unwrap()).join(path),
            };
            let has_anchor = |target: &Path| {
                anchors(&fs::read_to_string(target).unwrap_or_default()).iter().any(|a| a == anchor)
            };
            if !target.exists() || (!anchor.is_empty() && !has_anchor(&target)) {
                dead.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(n > 25, "there are {n} links");
    assert!(dead.is_empty(), "dead links: {dead:#?}");
}

#[test]
fn anchors_are_those_of_github() {
    let page =
        "# A page\n```\n# no heading\n```\n## EAGLE-3\n## `Add` a kernel, now\n## A page\n#no\n";
    assert_eq!(anchors(page), ["a-page", "eagle-3", "add-a-kernel-now", "a-page-1"]);
    assert_eq!(links("[a](b#c) <img src=\"d\">").collect::<Vec<_>>(), ["b#c", "d"]);
}

/// Words in capitals stand for a file of one's own.
#[test]
fn prompt_files_of_commands_are_there() {
    let (mut n, mut missing) = (0, Vec::new());
    for (page, text) in pages() {
        let words: Vec<&str> = text.split_whitespace().collect();
        for pair in words.windows(2).filter(|pair| ["--prompts", "-f"].contains(&pair[0])) {
            let name = pair[1].trim_matches(|c: char| !c.is_alphanumeric());
            let own = name.chars().next().is_some_and(char::is_uppercase);
            n += 1;
            if name.ends_with(".jsonl") && !own && !root().join(name).exists() {
                missing.push(format!("{}: {name}", page.display()));
            }
        }
    }
    assert!(n > 4, "there are {n} commands");
    assert!(missing.is_empty(), "not in the repository: {missing:#?}");
}
