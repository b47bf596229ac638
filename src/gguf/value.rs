//! Metadata values: the thirteen types of the format and arrays of them, read with care.

use super::reader::{Parse, Reader};

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
    #[doc = "Strings of which at least one is not UTF-8."]
    Bytes(Vec<Vec<u8>>),
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

    /// Whether it says as little as a key that is missing: 0, false, the text "none", or nothing.
    pub fn says_nothing(&self) -> bool {
        match self {
            Self::String(text) => text.is_empty() || text == "none",
            Self::Bool(x) => !x,
            Self::Array(array) => array.is_empty(),
            Self::F32(x) => *x == 0.0,
            Self::F64(x) => *x == 0.0,
            value => value.integer() == Some(0),
        }
    }

    pub(super) fn integer(&self) -> Option<i128> {
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

    pub(super) fn read(reader: &mut Reader<'_>, type_id: u32) -> Parse<Self> {
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
            Self::Bytes(items) => items.len(),
            Self::Array(items) => items.len(),
            other => integers!(other, items => items.len()).expect("all other kinds are integers"),
        }
    }

    /// The items of an integer array, widened one by one; `None` for other arrays.
    pub(super) fn integers<T>(&self, narrow: impl Fn(i128) -> T) -> Option<Vec<T>> {
        integers!(self, items => items.iter().map(|&item| narrow(item.into())).collect())
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
            Self::Bytes(_) => "array of string that is not UTF-8",
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
                    items.push(reader.string()?.to_vec());
                }
                strings(items)
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
    String::from_utf8(bytes.to_vec())
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn strings(items: Vec<Vec<u8>>) -> Array {
    if items.iter().any(|item| std::str::from_utf8(item).is_err()) {
        return Array::Bytes(items);
    }
    let text = |item| String::from_utf8(item).expect("all were looked at");
    Array::String(items.into_iter().map(text).collect())
}
