//! The metadata of a model: typed keys.
//!
//! Writers disagree about widths (`u32` here, `u64` or `i32` there), so an integer is handed out in
//! any width it fits. Everything else keeps its type, and an error names the key and what was found.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::reader::{Parse, Reader};
use super::value::{Array, Value};
use crate::error::{Error, Result};

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
            let key = reader.name("key")?;
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
        Error::MissingKey { path: self.path.clone(), key: key.into() }
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

    /// An array of texts, as bytes: they need not be UTF-8.
    pub fn get_byte_strings(&self, key: &str) -> Result<Option<Vec<&[u8]>>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(Array::String(items))) => {
                Ok(Some(items.iter().map(String::as_bytes).collect()))
            }
            Some(Value::Array(Array::Bytes(items))) => {
                Ok(Some(items.iter().map(Vec::as_slice).collect()))
            }
            Some(other) => Err(self.wrong_type(key, "an array of string", other)),
        }
    }

    fn get_integers<T: TryFrom<i128>>(&self, key: &str, expected: &str) -> Result<Option<Vec<T>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let wrong = || self.wrong_type(key, expected, value);
        let Value::Array(array) = value else { return Err(wrong()) };
        let items = array.integers(|item| T::try_from(item).ok()).ok_or_else(wrong)?;
        let items: Option<Vec<T>> = items.into_iter().collect();
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

    /// An array of truth values; of integers, 0 is false.
    pub fn get_bool_array(&self, key: &str) -> Result<Option<Vec<bool>>> {
        match self.get(key) {
            Some(Value::Array(Array::Bool(items))) => Ok(Some(items.clone())),
            _ => {
                let items = self.get_integers::<i64>(key, "an array of bool")?;
                Ok(items.map(|items| items.into_iter().map(|item| item != 0).collect()))
            }
        }
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

    /// Like [`get_byte_strings`](Self::get_byte_strings), but the key must be there.
    pub fn require_byte_strings(&self, key: &str) -> Result<Vec<&[u8]>> {
        self.get_byte_strings(key)?.ok_or_else(|| self.missing(key))
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
