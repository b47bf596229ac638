//! A writer of GGUF files, version 3.

use dovetail::Model;
use dovetail::gguf::{Array, Value};
use std::io::Write;
use tempfile::NamedTempFile;

/// Tensor data begin at, and are filled up to, multiples of this.
const ALIGNMENT: usize = 32;

/// The contents of a file; tests change them to make wrong models.
#[derive(Clone)]
pub struct Parts {
    pub keys: Vec<(String, Value)>,
    pub tensors: Vec<Tensor>,
}

/// A tensor to be written.
#[derive(Clone)]
pub struct Tensor {
    pub name: String,
    /// As in the file: the fastest dimension first.
    pub shape: Vec<u64>,
    pub type_id: u32,
    pub bytes: Vec<u8>,
}

impl Parts {
    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.keys.len() as u64).to_le_bytes());
        for (key, item) in &self.keys {
            string(&mut out, key);
            value(&mut out, item);
        }
        let mut offset = 0u64;
        for tensor in &self.tensors {
            string(&mut out, &tensor.name);
            out.extend((tensor.shape.len() as u32).to_le_bytes());
            tensor.shape.iter().for_each(|n| out.extend(n.to_le_bytes()));
            out.extend(tensor.type_id.to_le_bytes());
            out.extend(offset.to_le_bytes());
            offset += tensor.bytes.len().next_multiple_of(ALIGNMENT) as u64;
        }
        out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
        for tensor in &self.tensors {
            out.extend(&tensor.bytes);
            out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
        }
        out
    }

    /// Writes the file to a temporary place.
    pub fn write(&self) -> NamedTempFile {
        let mut file = tempfile::Builder::new().suffix(".gguf").tempfile().unwrap();
        file.write_all(&self.bytes()).unwrap();
        file
    }

    /// Writes the file to a temporary place and loads it.
    pub fn load(&self) -> dovetail::Result<Model> {
        super::load(self.write().path())
    }

    /// The tensor `name`.
    pub fn tensor(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|t| t.name == name).unwrap()
    }

    /// Sets a key, or removes it.
    pub fn set(&mut self, key: &str, item: Option<Value>) {
        self.keys.retain(|(k, _)| k != key);
        self.keys.extend(item.map(|item| (key.to_owned(), item)));
    }
}

fn string(out: &mut Vec<u8>, text: impl AsRef<[u8]>) {
    let bytes = text.as_ref();
    out.extend((bytes.len() as u64).to_le_bytes());
    out.extend(bytes);
}

fn value(out: &mut Vec<u8>, value: &Value) {
    let mut put = |type_id: u32, bytes: &[u8]| {
        out.extend(type_id.to_le_bytes());
        out.extend(bytes);
    };
    match value {
        Value::U32(x) => put(4, &x.to_le_bytes()),
        Value::F32(x) => put(6, &x.to_le_bytes()),
        Value::Bool(x) => put(7, &[u8::from(*x)]),
        Value::String(text) => {
            put(8, &[]);
            string(out, text);
        }
        Value::Array(Array::I32(items)) => {
            put(9, &5u32.to_le_bytes());
            out.extend((items.len() as u64).to_le_bytes());
            items.iter().for_each(|item| out.extend(item.to_le_bytes()));
        }
        Value::Array(Array::U32(items)) => {
            put(9, &4u32.to_le_bytes());
            out.extend((items.len() as u64).to_le_bytes());
            items.iter().for_each(|item| out.extend(item.to_le_bytes()));
        }
        Value::Array(Array::Bool(items)) => {
            put(9, &7u32.to_le_bytes());
            out.extend((items.len() as u64).to_le_bytes());
            out.extend(items.iter().map(|item| u8::from(*item)));
        }
        Value::Array(Array::String(items)) => {
            put(9, &8u32.to_le_bytes());
            out.extend((items.len() as u64).to_le_bytes());
            items.iter().for_each(|item| string(out, item));
        }
        Value::Array(Array::Bytes(items)) => {
            put(9, &8u32.to_le_bytes());
            out.extend((items.len() as u64).to_le_bytes());
            items.iter().for_each(|item| string(out, item));
        }
        other => panic!("no test writes {} values", other.type_name()),
    }
}
