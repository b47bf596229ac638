//! Small models of each architecture, and their logits by its formulas: tests/data/architectures, which
//! scripts/make_architecture_reference.py writes after it has compared them with llama.cpp.

use super::fnv;
use super::gguf::{Parts, Tensor};
use super::tiny::{tensor, tokenizer_keys, types};
use dovetail::gguf::{Array, Value};
use serde_json::Value as Json;
use std::path::PathBuf;

/// Tokens of the context for which the logits hold.
pub const N_CTX: usize = 256;

/// A model and its logits.
pub struct Reference {
    pub name: String,
    pub arch: String,
    pub parts: Parts,
    pub tokens: Vec<u32>,
    /// After the last tokens: (rows, n_vocab).
    pub logits: Vec<Vec<f64>>,
}

/// All of them, in order of their names.
pub fn references() -> Vec<Reference> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/architectures");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
        .iter()
        .map(|file| read(&serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()))
        .collect()
}

fn read(json: &Json) -> Reference {
    let text = |key: &str| json[key].as_str().unwrap().to_owned();
    let rows = |key: &str| -> Vec<Vec<f64>> {
        let row =
            |row: &Json| row.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
        json[key].as_array().unwrap().iter().map(row).collect()
    };
    let (name, arch) = (text("name"), text("architecture"));
    let mut keys = vec![
        ("general.architecture".to_owned(), Value::String(arch.clone())),
        ("general.name".to_owned(), Value::String(name.clone())),
    ];
    for (key, item) in json["keys"].as_object().unwrap() {
        keys.push((format!("{arch}.{key}"), value(item)));
    }
    keys.extend(tokenizer_keys());
    let tensors = json["tensors"].as_array().unwrap().iter().map(|item| drawn(&name, item));
    Reference {
        parts: Parts { keys, tensors: tensors.collect() },
        tokens: json["tokens"]
            .as_array()
            .unwrap()
            .iter()
            .map(|t| t.as_u64().unwrap() as u32)
            .collect(),
        logits: rows("logits"),
        name,
        arch,
    }
}

fn value(item: &Json) -> Value {
    match item {
        Json::Bool(x) => Value::Bool(*x),
        Json::String(x) => Value::String(x.clone()),
        Json::Number(x) => match x.as_u64() {
            Some(n) => Value::U32(n as u32),
            None => Value::F32(x.as_f64().unwrap() as f32),
        },
        Json::Array(items) => Value::Array(match items[0] {
            Json::Bool(_) => Array::Bool(items.iter().map(|x| x.as_bool().unwrap()).collect()),
            _ => Array::U32(items.iter().map(|x| x.as_u64().unwrap() as u32).collect()),
        }),
        _ => panic!("no value of a key: {item}"),
    }
}

/// The tensor [name, shape with rows first, mean, deviation], or [name, shape, numbers, null].
fn drawn(model: &str, item: &Json) -> Tensor {
    let name = item[0].as_str().unwrap();
    let shape = item[1].as_array().unwrap().iter().rev().map(|n| n.as_u64().unwrap() as usize);
    let shape: Vec<usize> = shape.collect();
    let n = shape.iter().product::<usize>();
    let numbers: Vec<f32> = match (&item[2], item[3].as_f64()) {
        (Json::Array(numbers), _) => numbers.iter().map(|x| x.as_f64().unwrap() as f32).collect(),
        (mean, deviation) => {
            let (mean, deviation) = (mean.as_f64().unwrap(), deviation.unwrap());
            let seed = fnv(format!("{model}/{name}").bytes());
            let number = |i: u64| {
                let mut z = seed.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                z = (z ^ (z >> 31)) >> 40;
                let unit = 2.0 * (z as f64 / f64::from(1 << 24)) - 1.0;
                (unit * (deviation * 3.0f64.sqrt()) + mean) as f32
            };
            (0..n as u64).map(number).collect()
        }
    };
    tensor(name, types::F32, &shape, &numbers)
}
