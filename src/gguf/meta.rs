//! The metadata of a model: typed keys.
//!
//! Writers disagree about widths (`u32` here, `u64` or `i32` there), so an integer is handed out in
//! any width it fits. Everything else keeps its type, and an error names the key and what was found.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::reader::{Parse, Reader};
use crate::error::{Error, Result};

/// Arrays inside arrays deeper than this are refused: no writer makes them, recursion must end.
const DEPTH_MAX: usize = 4;

/// One metadata value: the thirteen types of the format.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Type 0.
    U8(u8),
    /// Type 1.
    I8(i8),
    /// Type 2.
    U16(u16),
    /// Type 3.
    I16(i16),
    /// Type 4.
    U32(u32),
    /// Type 5.
    I32(i32),
    /// Type 6.
    F32(f32),
    /// Type 7.
    Bool(bool),
    /// Type 8. Bytes that are not UTF-8 are replaced by U+FFFD.
    String(String),
    /// Type 9.
    Array(Array),
    /// Type 10.
    U64(u64),
    /// Type 11.
    I64(i64),
    /// Type 12.
    F64(f64),
}

/// An array of values of one type.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "each variant is the array of the Value of the same name")]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(Vec<String>),
    Array(Vec<Array>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

/// Runs the same expression over the vector of an integer array; anything else gives `None`.
macro_rules! integers {
    ($array:expr, $items:ident => $body:expr) => {
        match $array {
            Array::U8($items) => Some($body),
            Array::I8($items) => Some($body),
            Array::U16($items) => Some($body),
            Array::I16($items) => Some($body),
            Array::U32($items) => Some($body),
            Array::I32($items) => Some($body),
            Array::U64($items) => Some($body),
            Array::I64($items) => Some($body),
            _ => None,
        }
    };
}

impl Value {
    /// The type in words, for error messages.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::U8(_) => "u8",
            Self::I8(_) => "i8",
            Self::U16(_) => "u16",
            Self::I16(_) => "i16",
            Self::U32(_) => "u32",
            Self::I32(_) => "i32",
            Self::F32(_) => "f32",
            Self::Bool(_) => "bool",
            Self::String(_) => "string",
            Self::Array(array) => array.type_name(),
            Self::U64(_) => "u64",
            Self::I64(_) => "i64",
            Self::F64(_) => "f64",
        }
    }

    fn integer(&self) -> Option<i128> {
        match *self {
            Self::U8(x) => Some(x.into()),
            Self::I8(x) => Some(x.into()),
            Self::U16(x) => Some(x.into()),
            Self::I16(x) => Some(x.into()),
            Self::U32(x) => Some(x.into()),
            Self::I32(x) => Some(x.into()),
            Self::U64(x) => Some(x.into()),
            Self::I64(x) => Some(x.into()),
            _ => None,
        }
    }

    fn read(reader: &mut Reader<'_>, type_id: u32) -> Parse<Self> {
        Ok(match type_id {
            0 => Self::U8(u8::from_le_bytes(reader.array()?)),
            1 => Self::I8(i8::from_le_bytes(reader.array()?)),
            2 => Self::U16(u16::from_le_bytes(reader.array()?)),
            3 => Self::I16(i16::from_le_bytes(reader.array()?)),
            4 => Self::U32(reader.u32()?),
            5 => Self::I32(i32::from_le_bytes(reader.array()?)),
            6 => Self::F32(f32::from_le_bytes(reader.array()?)),
            7 => Self::Bool(reader.array::<1>()? != [0]),
            8 => Self::String(text(reader.string()?)),
            9 => Self::Array(Array::read(reader, 0)?),
            10 => Self::U64(reader.u64()?),
            11 => Self::I64(i64::from_le_bytes(reader.array()?)),
            12 => Self::F64(f64::from_le_bytes(reader.array()?)),
            other => return Err(format!("has the unknown value type {other}")),
        })
    }
}

impl Array {
    /// Number of items.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(items) => items.len(),
            Self::F64(items) => items.len(),
            Self::Bool(items) => items.len(),
            Self::String(items) => items.len(),
            Self::Array(items) => items.len(),
            other => integers!(other, items => items.len()).expect("all other kinds are integers"),
        }
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn type_name(&self) -> &'static str {
        match self {
            Self::U8(_) => "array of u8",
            Self::I8(_) => "array of i8",
            Self::U16(_) => "array of u16",
            Self::I16(_) => "array of i16",
            Self::U32(_) => "array of u32",
            Self::I32(_) => "array of i32",
            Self::F32(_) => "array of f32",
            Self::Bool(_) => "array of bool",
            Self::String(_) => "array of string",
            Self::Array(_) => "array of arrays",
            Self::U64(_) => "array of u64",
            Self::I64(_) => "array of i64",
            Self::F64(_) => "array of f64",
        }
    }

    fn read(reader: &mut Reader<'_>, depth: usize) -> Parse<Self> {
        if depth >= DEPTH_MAX {
            return Err(format!("nests arrays more than {DEPTH_MAX} deep"));
        }
        Ok(match reader.u32()? {
            0 => Self::U8(numbers(reader, u8::from_le_bytes)?),
            1 => Self::I8(numbers(reader, i8::from_le_bytes)?),
            2 => Self::U16(numbers(reader, u16::from_le_bytes)?),
            3 => Self::I16(numbers(reader, i16::from_le_bytes)?),
            4 => Self::U32(numbers(reader, u32::from_le_bytes)?),
            5 => Self::I32(numbers(reader, i32::from_le_bytes)?),
            6 => Self::F32(numbers(reader, f32::from_le_bytes)?),
            7 => Self::Bool(numbers(reader, |byte: [u8; 1]| byte != [0])?),
            8 => {
                let n = reader.count(8, "strings")?;
                let mut items = Vec::with_capacity(n);
                for _ in 0..n {
                    items.push(text(reader.string()?));
                }
                Self::String(items)
            }
            9 => {
                let n = reader.count(12, "arrays")?;
                let mut items = Vec::with_capacity(n);
                for _ in 0..n {
                    items.push(Self::read(reader, depth + 1)?);
                }
                Self::Array(items)
            }
            10 => Self::U64(numbers(reader, u64::from_le_bytes)?),
            11 => Self::I64(numbers(reader, i64::from_le_bytes)?),
            12 => Self::F64(numbers(reader, f64::from_le_bytes)?),
            other => return Err(format!("is an array of the unknown type {other}")),
        })
    }
}

fn numbers<T, const N: usize>(reader: &mut Reader<'_>, from: fn([u8; N]) -> T) -> Parse<Vec<T>> {
    let n = reader.count(N, "items")?;
    let bytes = reader.take(n * N)?;
    Ok(bytes.as_chunks::<N>().0.iter().map(|&item| from(item)).collect())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The keys and values of a model.
#[derive(Clone, Debug)]
pub struct Metadata {
    path: PathBuf,
    values: BTreeMap<String, Value>,
}

impl Metadata {
    /// Metadata made of given values, as a test or a converter needs; `path` appears in errors.
    pub fn from_values(
        path: impl Into<PathBuf>,
        values: impl IntoIterator<Item = (String, Value)>,
    ) -> Self {
        Self { path: path.into(), values: values.into_iter().collect() }
    }

    pub(super) fn read(reader: &mut Reader<'_>, n_keys: usize, path: &Path) -> Parse<Self> {
        let mut values = BTreeMap::new();
        for _ in 0..n_keys {
            let key = reader.name("key")?.to_owned();
            let type_id = reader.u32()?;
            let value =
                Value::read(reader, type_id).map_err(|what| format!("key `{key}`: {what}"))?;
            if values.contains_key(&key) {
                return Err(format!("key `{key}` occurs twice"));
            }
            values.insert(key, value);
        }
        Ok(Self { path: path.to_owned(), values })
    }

    /// The file the metadata came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All keys with their values, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of a key, whatever its type.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    fn wrong_type(&self, key: &str, expected: &str, found: &Value) -> Error {
        let found = found.type_name();
        Error::gguf(&self.path, format!("key `{key}` should be {expected} but is {found}"))
    }

    fn missing(&self, key: &str) -> Error {
        let path = self.path.display();
        Error::Missing { what: format!("{path}: key `{key}` is missing; convert the model anew") }
    }

    fn get_integer<T: TryFrom<i128>>(&self, key: &str, expected: &str) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let n = value.integer().ok_or_else(|| self.wrong_type(key, expected, value))?;
        T::try_from(n).map(Some).map_err(|_| {
            Error::gguf(&self.path, format!("key `{key}` is {n}, which does not fit {expected}"))
        })
    }

    /// An integer of any width that fits `u32`.
    pub fn get_u32(&self, key: &str) -> Result<Option<u32>> {
        self.get_integer(key, "a u32")
    }

    /// An integer of any width that fits `u64`.
    pub fn get_u64(&self, key: &str) -> Result<Option<u64>> {
        self.get_integer(key, "a u64")
    }

    /// An integer of any width that fits `i32`.
    pub fn get_i32(&self, key: &str) -> Result<Option<i32>> {
        self.get_integer(key, "an i32")
    }

    /// A float; `f64` is rounded to `f32`.
    pub fn get_f32(&self, key: &str) -> Result<Option<f32>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::F32(x)) => Ok(Some(*x)),
            Some(Value::F64(x)) => Ok(Some(*x as f32)),
            Some(other) => Err(self.wrong_type(key, "a float", other)),
        }
    }

    /// A truth value.
    pub fn get_bool(&self, key: &str) -> Result<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(x)) => Ok(Some(*x)),
            Some(other) => Err(self.wrong_type(key, "a bool", other)),
        }
    }

    /// A text.
    pub fn get_str(&self, key: &str) -> Result<Option<&str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(x)) => Ok(Some(x)),
            Some(other) => Err(self.wrong_type(key, "a string", other)),
        }
    }

    /// An array of texts.
    pub fn get_str_array(&self, key: &str) -> Result<Option<&[String]>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(Array::String(items))) => Ok(Some(items)),
            Some(other) => Err(self.wrong_type(key, "an array of string", other)),
        }
    }

    fn get_integers<T: TryFrom<i128>>(&self, key: &str, expected: &str) -> Result<Option<Vec<T>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let wrong = || self.wrong_type(key, expected, value);
        let Value::Array(array) = value else { return Err(wrong()) };
        let items: Option<Vec<T>> = integers!(array, items => {
            items.iter().map(|&x| T::try_from(i128::from(x)).ok()).collect()
        })
        .ok_or_else(wrong)?;
        items.map(Some).ok_or_else(|| {
            Error::gguf(&self.path, format!("key `{key}` has an item that does not fit {expected}"))
        })
    }

    /// An array of integers of any width whose items fit `u32`.
    pub fn get_u32_array(&self, key: &str) -> Result<Option<Vec<u32>>> {
        self.get_integers(key, "an array of u32")
    }

    /// An array of integers of any width whose items fit `i32`.
    pub fn get_i32_array(&self, key: &str) -> Result<Option<Vec<i32>>> {
        self.get_integers(key, "an array of i32")
    }

    /// An array of floats; `f64` items are rounded to `f32`.
    pub fn get_f32_array(&self, key: &str) -> Result<Option<Vec<f32>>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(Array::F32(items))) => Ok(Some(items.clone())),
            Some(Value::Array(Array::F64(items))) => {
                Ok(Some(items.iter().map(|&x| x as f32).collect()))
            }
            Some(other) => Err(self.wrong_type(key, "an array of floats", other)),
        }
    }

    /// Like [`get_u32`](Self::get_u32), but the key must be there.
    pub fn require_u32(&self, key: &str) -> Result<u32> {
        self.get_u32(key)?.ok_or_else(|| self.missing(key))
    }

    /// Like [`get_f32`](Self::get_f32), but the key must be there.
    pub fn require_f32(&self, key: &str) -> Result<f32> {
        self.get_f32(key)?.ok_or_else(|| self.missing(key))
    }

    /// Like [`get_bool`](Self::get_bool), but the key must be there.
    pub fn require_bool(&self, key: &str) -> Result<bool> {
        self.get_bool(key)?.ok_or_else(|| self.missing(key))
    }

    /// Like [`get_str`](Self::get_str), but the key must be there.
    pub fn require_str(&self, key: &str) -> Result<&str> {
        self.get_str(key)?.ok_or_else(|| self.missing(key))
    }

    /// Like [`get_str_array`](Self::get_str_array), but the key must be there.
    pub fn require_str_array(&self, key: &str) -> Result<&[String]> {
        self.get_str_array(key)?.ok_or_else(|| self.missing(key))
    }

    /// Like [`get_u32_array`](Self::get_u32_array), but the key must be there.
    pub fn require_u32_array(&self, key: &str) -> Result<Vec<u32>> {
        self.get_u32_array(key)?.ok_or_else(|| self.missing(key))
    }

    /// Like [`get_i32_array`](Self::get_i32_array), but the key must be there.
    pub fn require_i32_array(&self, key: &str) -> Result<Vec<i32>> {
        self.get_i32_array(key)?.ok_or_else(|| self.missing(key))
    }

    /// Like [`get_f32_array`](Self::get_f32_array), but the key must be there.
    pub fn require_f32_array(&self, key: &str) -> Result<Vec<f32>> {
        self.get_f32_array(key)?.ok_or_else(|| self.missing(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata() -> Metadata {
        let values = [
            ("n", Value::I64(7)),
            ("negative", Value::I8(-1)),
            ("big", Value::U64(1 << 40)),
            ("eps", Value::F64(0.5)),
            ("name", Value::String("x".into())),
            ("heads", Value::Array(Array::I32(vec![3, 4]))),
            ("flags", Value::Array(Array::Bool(vec![true]))),
        ];
        Metadata::from_values("m.gguf", values.map(|(key, value)| (key.to_owned(), value)))
    }

    #[test]
    fn integers_convert_when_they_fit() {
        let meta = metadata();
        assert_eq!(meta.get_u32("n").unwrap(), Some(7));
        assert_eq!(meta.get_i32("negative").unwrap(), Some(-1));
        assert_eq!(meta.get_f32("eps").unwrap(), Some(0.5));
        assert_eq!(meta.get_u32_array("heads").unwrap(), Some(vec![3, 4]));
        assert_eq!(meta.get_u32("absent").unwrap(), None);
    }

    #[test]
    fn errors_name_the_key_and_the_type_found() {
        let meta = metadata();
        for (error, parts) in [
            (meta.get_u32("name").unwrap_err(), ["`name`", "string"]),
            (meta.get_u32("negative").unwrap_err(), ["`negative`", "-1"]),
            (meta.get_u32("big").unwrap_err(), ["`big`", "u32"]),
            (meta.get_u32_array("flags").unwrap_err(), ["`flags`", "array of bool"]),
            (meta.require_str("absent").unwrap_err(), ["`absent`", "missing"]),
        ] {
            let text = error.to_string();
            assert!(
                text.starts_with("m.gguf: ") && parts.iter().all(|p| text.contains(p)),
                "{text}"
            );
        }
    }
}
