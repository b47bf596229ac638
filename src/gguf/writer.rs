//! A writer of small GGUF files, for tests only.

use super::value::{Array, Value};

/// A tensor to be written: name, shape, type, offset in the data section.
pub(crate) type TensorEntry<'a> = (&'a str, &'a [u64], u32, u64);

pub(crate) fn header(version: u32, n_tensors: u64, n_keys: u64) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(version.to_le_bytes());
    out.extend(n_tensors.to_le_bytes());
    out.extend(n_keys.to_le_bytes());
    out
}

pub(crate) fn string(out: &mut Vec<u8>, text: impl AsRef<[u8]>) {
    let bytes = text.as_ref();
    out.extend((bytes.len() as u64).to_le_bytes());
    out.extend(bytes);
}

pub(crate) fn value(out: &mut Vec<u8>, value: &Value) {
    let mut put = |type_id: u32, bytes: &[u8]| {
        out.extend(type_id.to_le_bytes());
        out.extend(bytes);
    };
    match value {
        Value::U8(x) => put(0, &[*x]),
        Value::I8(x) => put(1, &x.to_le_bytes()),
        Value::U16(x) => put(2, &x.to_le_bytes()),
        Value::I16(x) => put(3, &x.to_le_bytes()),
        Value::U32(x) => put(4, &x.to_le_bytes()),
        Value::I32(x) => put(5, &x.to_le_bytes()),
        Value::F32(x) => put(6, &x.to_le_bytes()),
        Value::Bool(x) => put(7, &[u8::from(*x)]),
        Value::U64(x) => put(10, &x.to_le_bytes()),
        Value::I64(x) => put(11, &x.to_le_bytes()),
        Value::F64(x) => put(12, &x.to_le_bytes()),
        Value::String(text) => {
            put(8, &[]);
            string(out, text);
        }
        Value::Array(items) => {
            put(9, &[]);
            array(out, items);
        }
    }
}

fn array(out: &mut Vec<u8>, array: &Array) {
    fn numbers<T: Copy, const N: usize>(
        out: &mut Vec<u8>,
        type_id: u32,
        items: &[T],
        bytes: fn(T) -> [u8; N],
    ) {
        out.extend(type_id.to_le_bytes());
        out.extend((items.len() as u64).to_le_bytes());
        items.iter().for_each(|&item| out.extend(bytes(item)));
    }
    match array {
        Array::U8(items) => numbers(out, 0, items, u8::to_le_bytes),
        Array::I8(items) => numbers(out, 1, items, i8::to_le_bytes),
        Array::U16(items) => numbers(out, 2, items, u16::to_le_bytes),
        Array::I16(items) => numbers(out, 3, items, i16::to_le_bytes),
        Array::U32(items) => numbers(out, 4, items, u32::to_le_bytes),
        Array::I32(items) => numbers(out, 5, items, i32::to_le_bytes),
        Array::F32(items) => numbers(out, 6, items, f32::to_le_bytes),
        Array::Bool(items) => numbers(out, 7, items, |x| [u8::from(x)]),
        Array::U64(items) => numbers(out, 10, items, u64::to_le_bytes),
        Array::I64(items) => numbers(out, 11, items, i64::to_le_bytes),
        Array::F64(items) => numbers(out, 12, items, f64::to_le_bytes),
        Array::String(items) => {
            out.extend(8u32.to_le_bytes());
            out.extend((items.len() as u64).to_le_bytes());
            items.iter().for_each(|item| string(out, item));
        }
        Array::Bytes(items) => {
            out.extend(8u32.to_le_bytes());
            out.extend((items.len() as u64).to_le_bytes());
            items.iter().for_each(|item| string(out, item));
        }
        Array::Array(items) => {
            out.extend(9u32.to_le_bytes());
            out.extend((items.len() as u64).to_le_bytes());
            items.iter().for_each(|item| self::array(out, item));
        }
    }
}

/// A whole file: version 3, data padded to 32 and filled with `data_bytes` counting bytes.
pub(crate) fn file(
    keys: &[(&str, Value)],
    tensors: &[TensorEntry<'_>],
    data_bytes: usize,
) -> Vec<u8> {
    let mut out = header(3, tensors.len() as u64, keys.len() as u64);
    for (key, item) in keys {
        string(&mut out, key);
        value(&mut out, item);
    }
    for (name, shape, type_id, offset) in tensors {
        string(&mut out, name);
        out.extend((shape.len() as u32).to_le_bytes());
        shape.iter().for_each(|dim| out.extend(dim.to_le_bytes()));
        out.extend(type_id.to_le_bytes());
        out.extend(offset.to_le_bytes());
    }
    out.resize(out.len().next_multiple_of(32), 0);
    out.extend((0..data_bytes).map(|i| i as u8));
    out
}
