//! The mutable state of a rendering: namespaces, loops, and other objects.
//!
//! Objects live as long as the rendering and are named by their index. So an object may contain itself at no cost: code
//! that walks through an object's values does so by index and counts the depth.

use std::cell::RefCell;
use std::rc::Rc;

use super::error::Result;
use super::meter::{Held, Meter};
use super::value::{List, ListBuilder, MapBuilder, Text, TextBuilder, Value};

/// The values and objects of one rendering.
pub struct Heap {
    meter: Rc<Meter>,
    objects: RefCell<(Vec<Object>, Held)>,
}

/// An object with state.
#[derive(Clone)]
pub enum Object {
    /// Attributes that can be set, by their names.
    Namespace(Vec<(Value, Value)>),
    /// A loop that is running.
    Loop(LoopState),
    /// A macro.
    Macro(MacroState),
    /// Empty at its first call, then this value.
    Joiner(Value, bool),
    /// Cycles through these values; the index of the current one.
    Cycler(Rc<List>, usize),
    /// A method of a value that was not called yet, by its name.
    Method(Value, &'static str),
}

impl Object {
    /// A copy, unless it is a namespace, which may be large.
    pub fn clone_unless_namespace(&self) -> Option<Self> {
        match self {
            Self::Namespace(_) => None,
            other => Some(other.clone()),
        }
    }
}

/// The state of `loop`.
#[derive(Clone)]
pub struct LoopState {
    /// All items.
    pub items: Rc<List>,
    /// The index of the current item.
    pub index: usize,
    /// Number of recursive loops around it.
    pub depth: usize,
    /// The value of the last `loop.changed`.
    pub seen: Value,
    /// For `loop(items)`: its index in the program, and the scope around it.
    pub again: Option<(usize, (usize, u64))>,
}

/// A macro and where it was defined.
#[derive(Clone, Copy)]
pub struct MacroState {
    /// Its index in the program.
    pub index: usize,
    /// The scope that contains it, with that scope's number.
    pub scope: (usize, u64),
}

/// The bytes that an object takes.
const OBJECT: usize = size_of::<Object>() + 32;

impl Heap {
    /// An empty one.
    ///
    /// # Errors
    /// As for [`Meter::hold`].
    pub fn new(meter: Rc<Meter>) -> Result<Self> {
        let objects = RefCell::new((Vec::new(), meter.hold(0)?));
        Ok(Self { meter, objects })
    }

    /// The remaining limits of the rendering.
    pub fn meter(&self) -> &Rc<Meter> {
        &self.meter
    }

    /// Spends steps.
    ///
    /// # Errors
    /// If none are left.
    pub fn spend(&self, steps: usize) -> Result<()> {
        self.meter.spend(steps)
    }

    /// A copy of a text.
    ///
    /// # Errors
    /// As for [`Meter::hold`].
    pub fn text(&self, text: &str) -> Result<Value> {
        Value::text(&self.meter, text)
    }

    /// A copy of a text that is the template's own.
    ///
    /// # Errors
    /// As for [`Meter::hold`].
    pub fn literal(&self, text: &str) -> Result<Value> {
        Value::literal(&self.meter, text)
    }

    /// A copy of a part of a text.
    ///
    /// # Errors
    /// As for [`Meter::hold`].
    pub fn part(&self, text: &Text, part: &str) -> Result<Value> {
        Value::part(&self.meter, text, part)
    }

    /// Starts a text.
    ///
    /// # Errors
    /// As for [`Meter::hold`].
    pub fn text_builder(&self) -> Result<TextBuilder> {
        TextBuilder::new(&self.meter)
    }

    /// Starts a list.
    ///
    /// # Errors
    /// As for [`Meter::hold`].
    pub fn list_builder(&self) -> Result<ListBuilder> {
        ListBuilder::new(&self.meter)
    }

    /// Starts a dictionary.
    ///
    /// # Errors
    /// As for [`Meter::hold`].
    pub fn map_builder(&self) -> Result<MapBuilder> {
        MapBuilder::new(&self.meter)
    }

    /// A list of values.
    ///
    /// # Errors
    /// As for [`ListBuilder::push`].
    pub fn list(&self, values: impl IntoIterator<Item = Value>) -> Result<Value> {
        let mut list = self.list_builder()?;
        values.into_iter().try_for_each(|value| list.push(value))?;
        Ok(list.finish())
    }

    /// Adds an object.
    ///
    /// # Errors
    /// As for [`Meter::hold`].
    pub fn add(&self, object: Object) -> Result<Value> {
        let (objects, held) = &mut *self.objects.borrow_mut();
        held.grow(OBJECT)?;
        objects.push(object);
        Ok(Value::Object(objects.len() - 1))
    }

    /// Holds bytes that belong to an object.
    ///
    /// # Errors
    /// As for [`Meter::hold`].
    pub fn grow(&self, bytes: usize) -> Result<()> {
        self.objects.borrow_mut().1.grow(bytes)
    }

    /// Looks at an object.
    pub fn with<T>(&self, index: usize, look: impl FnOnce(&Object) -> T) -> T {
        look(&self.objects.borrow().0[index])
    }

    /// An entry of a namespace.
    pub fn entry(&self, index: usize, entry: usize) -> Option<(Value, Value)> {
        self.with(index, |object| match object {
            Object::Namespace(entries) => entries.get(entry).cloned(),
            _ => None,
        })
    }

    /// Changes an object. `change` must not use the heap.
    pub fn change<T>(&self, index: usize, change: impl FnOnce(&mut Object) -> T) -> T {
        change(&mut self.objects.borrow_mut().0[index])
    }
}
