//! What changes while a template is rendered: namespaces, loops, and what else keeps a state.
//!
//! Objects live as long as the rendering and are named by their index. So one may contain itself, which
//! costs nothing: whoever goes through an object's values does so by index, and counts how deep.

use std::cell::RefCell;
use std::rc::Rc;

use super::meter::{Held, Meter, Result};
use super::value::{List, ListBuilder, MapBuilder, TextBuilder, Value};

/// The values and objects of one rendering.
pub struct Heap {
    meter: Rc<Meter>,
    objects: RefCell<(Vec<Object>, Held)>,
}

/// What keeps a state.
#[derive(Clone)]
pub enum Object {
    /// Attributes that can be set, by their names.
    Namespace(Vec<(Value, Value)>),
    /// A loop that is running.
    Loop(LoopState),
    /// A macro.
    Macro(MacroState),
    /// Nothing at its first call, then this.
    Joiner(Value, bool),
    /// The next of these at each call, and the index of the current one.
    Cycler(Rc<List>, usize),
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

/// What `loop` knows.
#[derive(Clone)]
pub struct LoopState {
    /// All items.
    pub items: Rc<List>,
    /// The item that it is at.
    pub index: usize,
    /// How many recursive loops are around it.
    pub depth: usize,
    /// What `loop.changed` was last asked about.
    pub seen: Value,
    /// If `loop(items)` may begin it anew: its index in the program, and the scope around it.
    pub again: Option<(usize, (usize, u64))>,
}

/// A macro and where it was defined.
#[derive(Clone, Copy)]
pub struct MacroState {
    /// Its index in the program.
    pub index: usize,
    /// The scope that it stands in, and that scope's number.
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

    /// What is left for the rendering.
    pub fn meter(&self) -> &Rc<Meter> {
        &self.meter
    }

    /// Takes steps.
    ///
    /// # Errors
    /// When none are left.
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

    /// A text in the making.
    ///
    /// # Errors
    /// As for [`Meter::hold`].
    pub fn text_builder(&self) -> Result<TextBuilder> {
        TextBuilder::new(&self.meter)
    }

    /// A list in the making.
    ///
    /// # Errors
    /// As for [`Meter::hold`].
    pub fn list_builder(&self) -> Result<ListBuilder> {
        ListBuilder::new(&self.meter)
    }

    /// A dictionary in the making.
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

    /// Takes bytes that stay with an object.
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
