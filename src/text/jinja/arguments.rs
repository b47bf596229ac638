//! The arguments that a function, filter, test or method is given.

use super::compare::find_name;
use super::error::{Result, TemplateError};
use super::heap::Heap;
use super::value::{ListBuilder, MapBuilder, Value};

/// Arguments with their values.
pub struct Arguments {
    /// In their order.
    pub positional: ListBuilder,
    /// By name.
    pub named: MapBuilder,
}

impl Arguments {
    /// No arguments yet.
    ///
    /// # Errors
    /// If no bytes are left.
    pub fn new(heap: &Heap) -> Result<Self> {
        Ok(Self { positional: heap.list_builder()?, named: heap.map_builder()? })
    }

    /// The arguments of a function with these parameters.
    ///
    /// # Errors
    /// If there are more, one has another name, or one is given twice.
    pub fn bind<const N: usize>(
        &self,
        heap: &Heap,
        names: [&str; N],
    ) -> Result<[Option<Value>; N]> {
        let positional = self.positional.items();
        if positional.len() > N {
            let n = positional.len();
            return Err(TemplateError::new(format!("{n} arguments are given, {N} are taken")));
        }
        let mut found = [const { None }; N];
        for (place, value) in found.iter_mut().zip(positional) {
            *place = Some(value.clone());
        }
        heap.spend(self.named.entries().len())?;
        for (name, value) in self.named.entries() {
            let name = name.as_str().unwrap_or_default();
            let place = names.iter().position(|known| *known == name);
            match place.map(|place| &mut found[place]) {
                Some(place @ None) => *place = Some(value.clone()),
                Some(_) => {
                    return Err(TemplateError::new(format!("argument `{name}` is given twice")));
                }
                None => {
                    let name: String = name.chars().take(40).collect();
                    return Err(TemplateError::new(format!("argument `{name}` is not taken")));
                }
            }
        }
        Ok(found)
    }

    /// No arguments.
    ///
    /// # Errors
    /// If there are some.
    pub fn none(&self, heap: &Heap) -> Result<()> {
        self.bind(heap, []).map(|[]| ())
    }

    /// No arguments by name.
    ///
    /// # Errors
    /// If there are some.
    pub fn no_names(&self) -> Result<()> {
        match self.named.entries() {
            [] => Ok(()),
            [(name, _), ..] => {
                let name: String = name.as_str().unwrap_or_default().chars().take(40).collect();
                Err(TemplateError::new(format!("argument `{name}` is not taken by name")))
            }
        }
    }

    /// A named argument.
    ///
    /// # Errors
    /// If no steps are left.
    pub fn named(&self, heap: &Heap, name: &str) -> Result<Option<Value>> {
        let entries = self.named.entries();
        Ok(find_name(heap, entries, name)?.map(|index| entries[index].1.clone()))
    }

    /// The steps that reading all of them takes.
    pub fn cost(&self) -> usize {
        let positional = self.positional.items().iter().map(Value::cost);
        positional.chain(self.named.entries().iter().map(|(_, value)| value.cost())).sum()
    }
}

/// An argument that has to be there.
///
/// # Errors
/// If it is not.
pub fn required(argument: Option<Value>, name: &str) -> Result<Value> {
    argument.ok_or_else(|| TemplateError::new(format!("argument `{name}` is missing")))
}

/// An argument that is a string.
///
/// # Errors
/// If it is none.
pub fn text<'a>(argument: &'a Value, name: &str) -> Result<&'a str> {
    argument.as_str().ok_or_else(|| {
        TemplateError::new(format!(
            "argument `{name}` is {}, it has to be a string",
            argument.kind()
        ))
    })
}

/// An argument that is a whole number, or its default.
///
/// # Errors
/// If it is something else.
pub fn int(argument: &Option<Value>, name: &str, default: i64) -> Result<i64> {
    match argument {
        None | Some(Value::None) => Ok(default),
        Some(value) => value.as_int().ok_or_else(|| {
            TemplateError::new(format!(
                "argument `{name}` is {}, it has to be a whole number",
                value.kind()
            ))
        }),
    }
}

/// An argument that counts something; what is below zero counts as zero.
///
/// # Errors
/// If it is no whole number.
pub fn count(argument: &Option<Value>, name: &str, default: usize) -> Result<usize> {
    Ok(int(argument, name, default as i64)?.try_into().unwrap_or(0))
}

/// An argument that is true or false.
pub fn flag(argument: &Option<Value>, default: bool) -> bool {
    argument.as_ref().map_or(default, Value::is_true)
}
