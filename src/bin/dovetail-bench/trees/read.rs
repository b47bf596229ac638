//! Reads what `record.rs` writes. If a file is not a record, the error names the line.

use dovetail::tree::Tree;
use dovetail::{Error, Result, file};
use serde_json::Value;
use std::path::Path;

/// A recorded answer.
pub struct Answer {
    pub category: String,
    pub prompt_tokens: usize,
    pub tokens: Vec<u32>,
    /// The tree after each token except the last: (tokens − 1).
    pub trees: Vec<Tree>,
}

/// A record.
pub struct Record {
    pub temperature: f32,
    /// The answers that have something to draft.
    pub answers: Vec<Answer>,
}

/// Reads a record.
///
/// # Errors
/// If the file cannot be read, or a line is not what `record.rs` writes.
pub fn read(path: &Path) -> Result<Record> {
    let text =
        file::read_text(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    parse(&text).map_err(|what| {
        let again = "write it again with dovetail-bench trees --record";
        Error::Invalid(format!("{}, {what}; {again}", path.display()))
    })
}

fn parse(text: &str) -> std::result::Result<Record, String> {
    let mut lines = text.lines().zip(1..);
    let header = lines.next().and_then(|(line, _)| serde_json::from_str::<Value>(line).ok());
    let header = header.filter(|header| header["version"] == 1);
    let temperature = header.and_then(|header| header["temperature"].as_f64());
    let temperature = temperature.ok_or("line 1: no header of a record")? as f32;
    let answers = lines
        .map(|(line, n)| answer(line).map_err(|what| format!("line {n}: {what}")))
        .filter(|answer| answer.as_ref().is_ok_and(|a| !a.trees.is_empty()) || answer.is_err())
        .collect::<std::result::Result<Vec<_>, _>>()?;
    if answers.is_empty() {
        return Err("no answer has two tokens".into());
    }
    Ok(Record { temperature, answers })
}

fn answer(line: &str) -> std::result::Result<Answer, String> {
    let value: Value = serde_json::from_str(line).map_err(|_| "no whole JSON object")?;
    let tokens = all(&value, "tokens", whole)?;
    let trees = value["trees"].as_array().ok_or("no \"trees\"")?;
    if trees.len() + 1 != tokens.len() {
        let (trees, tokens) = (trees.len(), tokens.len());
        return Err(format!("{trees} trees and {tokens} tokens, where all but the last have one"));
    }
    let trees =
        trees.iter().zip(&tokens).enumerate().map(|(i, (value, root))| {
            tree(value, *root).map_err(|what| format!("tree {i}: {what}"))
        });
    Ok(Answer {
        category: value["category"].as_str().ok_or("no \"category\"")?.to_owned(),
        prompt_tokens: whole(&value["prompt_tokens"]).ok_or("no \"prompt_tokens\"")? as usize,
        trees: trees.collect::<std::result::Result<_, _>>()?,
        tokens,
    })
}

fn tree(value: &Value, root: u32) -> std::result::Result<Tree, String> {
    let (parents, tokens) = (all(value, "parents", whole)?, all(value, "tokens", whole)?);
    let paths = all(value, "log_probs", |number| {
        number.as_f64().map(|x| x as f32).filter(|x| x.is_finite())
    })?;
    if parents.len() != tokens.len() || paths.len() != tokens.len() {
        return Err("\"parents\", \"tokens\" and \"log_probs\" are not equally many".into());
    }
    let mut tree = Tree::new(root);
    for (node, ((parent, token), path)) in (1..).zip(parents.iter().zip(tokens).zip(&paths)) {
        let parent = *parent as usize;
        if parent >= node {
            return Err(format!("node {node} follows node {parent}, which is not before it"));
        }
        let before = if parent == 0 { 0.0 } else { paths[parent - 1] };
        if *path > before {
            return Err(format!("node {node} is likelier than node {parent}, which it follows"));
        }
        if tree.push(parent, token, path - before) != Some(node) {
            return Err(format!("node {node} is there twice, or one too many"));
        }
    }
    Ok(tree)
}

/// The entries of an array.
fn all<T>(
    value: &Value,
    name: &str,
    read: impl Fn(&Value) -> Option<T>,
) -> std::result::Result<Vec<T>, String> {
    let numbers = value[name].as_array().and_then(|array| array.iter().map(read).collect());
    numbers.ok_or_else(|| format!("no numbers in {name:?}"))
}

fn whole(value: &Value) -> Option<u32> {
    value.as_u64()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record(answer: &Value) -> String {
        format!("{}\n{answer}\n", json!({ "version": 1, "temperature": 0.0 }))
    }

    fn good() -> Value {
        json!({
            "category": "qa", "prompt_tokens": 3, "tokens": [5, 6, 7],
            "trees": [
                { "parents": [0, 0, 1], "tokens": [6, 8, 7], "log_probs": [-0.5, -1.0, -0.75] },
                { "parents": [], "tokens": [], "log_probs": [] },
            ],
        })
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let answers = parse(&record(&good())).unwrap().answers;
        let [answer] = &answers[..] else { panic!("there is one") };
        assert_eq!((&answer.category[..], answer.prompt_tokens), ("qa", 3));
        assert_eq!((&answer.tokens[..], answer.trees.len()), (&[5, 6, 7][..], 2));
        let tree = answer.trees[0];
        assert_eq!((tree.tokens(), tree.masks()), (&[5, 6, 8, 7][..], &[1, 3, 5, 11][..]));
        assert_eq!(tree.log_probs(), [0.0, -0.5, -1.0, -0.75]);
        assert_eq!(answer.trees[1].len(), 1);
    }

    #[test]
    fn damage_is_named() {
        for (path, wrong, part) in [
            ("/trees/0/parents/0", json!(1), "tree 0: node 1 follows node 1, which is not before"),
            ("/trees/0/parents/1", json!(3), "node 2 follows node 3"),
            ("/trees/0/parents/1", json!(99), "node 2 follows node 99"),
            ("/trees/0/parents/1", json!(-1), "no numbers in \"parents\""),
            ("/trees/0/tokens/1", json!(6), "node 2 is there twice"),
            ("/trees/0/tokens/1", json!(1.5), "no numbers in \"tokens\""),
            ("/trees/0/tokens", json!([6]), "not equally many"),
            ("/trees/0/log_probs/0", json!("NaN"), "no numbers in \"log_probs\""),
            ("/trees/0/log_probs/0", json!(null), "no numbers in \"log_probs\""),
            ("/trees/0/log_probs/0", json!(-1e300), "no numbers in \"log_probs\""),
            ("/trees/0/log_probs/0", json!(0.5), "node 1 is likelier than node 0"),
            ("/trees/0/log_probs/2", json!(-0.25), "node 3 is likelier than node 1"),
            ("/trees/0", json!(7), "tree 0: no numbers"),
            ("/trees", json!([]), "0 trees and 3 tokens"),
            ("/tokens/0", json!(1u64 << 32), "no numbers in \"tokens\""),
            ("/category", json!(null), "no \"category\""),
            ("/prompt_tokens", json!(-3), "no \"prompt_tokens\""),
        ] {
            let mut bad = good();
            *bad.pointer_mut(path).unwrap() = wrong;
            let said = parse(&record(&bad)).err().unwrap();
            assert!(said.starts_with("line 2: ") && said.contains(part), "{path}: {said}");
        }
        let mut large = good();
        large["trees"][0] = json!({
            "parents": vec![0; 64],
            "tokens": (0..64).collect::<Vec<_>>(),
            "log_probs": vec![-1.0; 64],
        });
        assert!(
            parse(&record(&large)).err().unwrap().contains("node 64 is there twice, or one too")
        );
        let whole = record(&good());
        for (text, part) in [
            (&whole[..whole.len() - 9], "line 2: no whole JSON"),
            ("", "line 1: no header"),
            ("{\"version\": 2}\n", "line 1: no header"),
            ("{\"version\": 1}\n", "line 1: no header"),
            ("{\"version\": 1, \"temperature\": 0.5}\n", "no answer has two tokens"),
        ] {
            assert!(parse(text).err().unwrap().contains(part), "{text}");
        }
    }
}
