//! Calls: functions, macros, methods and objects.

use super::super::access::{attribute, iterate};
use super::super::arguments::{Arguments, int, required, text};
use super::super::ast::{Macro, Name};
use super::super::compare::{equal, insert};
use super::super::error::{Result, TemplateError};
use super::super::heap::{LoopState, MacroState, Object};
use super::super::methods;
use super::super::time::strftime;
use super::super::value::{Function, ListKind, Value};
use super::Interpreter;

/// The most items that `range` makes: as many as Jinja2's sandbox allows.
const RANGE: i64 = 100_000;
/// The longest format of a date, and the longest reason that a template gives.
const SHORT: usize = 1000;

impl<'p> Interpreter<'p> {
    /// Calls a value.
    pub(super) fn call(&mut self, value: &Value, arguments: Arguments) -> Result<Value> {
        match value {
            Value::Function(function) => self.function(*function, arguments),
            Value::Object(index) => match self.heap.with(*index, Object::clone_unless_namespace) {
                Some(Object::Macro(state)) => self.call_macro(state, arguments),
                Some(Object::Loop(state)) => self.call_loop(state, arguments),
                Some(Object::Joiner(separator, is_begun)) => {
                    arguments.none(self.heap)?;
                    let begun = Object::Joiner(separator.clone(), true);
                    self.heap.change(*index, |object| *object = begun);
                    if is_begun { Ok(separator) } else { self.heap.text("") }
                }
                Some(Object::Method(receiver, name)) => {
                    let found = methods::call(self.heap, &receiver, name, &arguments)?;
                    found.ok_or_else(|| TemplateError::new(format!("there is no method `{name}`")))
                }
                _ => Err(TemplateError::new("an object cannot be called")),
            },
            Value::Undefined => Err(TemplateError::new("an undefined value is called")),
            _ => Err(TemplateError::new(format!("{} cannot be called", value.kind()))),
        }
    }

    #[inline(never)]
    fn function(&mut self, function: Function, arguments: Arguments) -> Result<Value> {
        let heap = self.heap;
        match function {
            Function::Range => self.range(&arguments),
            Function::Dict => self.dict(&arguments),
            Function::Namespace => {
                let value = self.dict(&arguments)?;
                let Value::Map(map) = &value else { return Ok(value) };
                heap.grow(map.entries.len() * 2 * size_of::<Value>())?;
                heap.add(Object::Namespace(map.entries.clone()))
            }
            Function::Joiner => {
                let [separator] = arguments.bind(heap, ["sep"])?;
                let separator = separator.map_or_else(|| heap.text(", "), Ok)?;
                heap.add(Object::Joiner(separator, false))
            }
            Function::Cycler => {
                if arguments.positional.items().is_empty() {
                    return Err(TemplateError::new("`cycler` takes at least one value"));
                }
                heap.add(Object::Cycler(arguments.positional.into_list(ListKind::List), 0))
            }
            Function::RaiseException => {
                let [message] = arguments.bind(heap, ["message"])?;
                let message = required(message, "message")?;
                let message: String = text(&message, "message")?.chars().take(SHORT).collect();
                Err(TemplateError::new(message))
            }
            Function::StrftimeNow => self.date(&arguments),
            Function::Block(index) => {
                arguments.none(heap)?;
                let body = &self.program.blocks[index].1;
                Ok(self.written(|interpreter| interpreter.scoped((0, 0), body))?.1)
            }
            Function::Blocks => Err(TemplateError::new("`self` cannot be called")),
        }
    }

    fn dict(&self, arguments: &Arguments) -> Result<Value> {
        let heap = self.heap;
        let mut map = heap.map_builder()?;
        match arguments.positional.items() {
            [] => {}
            [Value::Map(from)] => {
                let mut entries = from.entries.iter();
                entries.try_for_each(|(key, value)| map.push(key.clone(), value.clone()))?;
            }
            [pairs] => {
                for pair in &iterate(heap, pairs)?.items {
                    let [key, value] = &iterate(heap, pair)?.items[..] else {
                        return Err(TemplateError::new("an entry of a dict is not a pair"));
                    };
                    insert(heap, &mut map, key.clone(), value.clone())?;
                }
            }
            _ => return Err(TemplateError::new("`dict` takes one value and named ones")),
        }
        for (key, value) in arguments.named.entries() {
            insert(heap, &mut map, key.clone(), value.clone())?;
        }
        Ok(map.finish())
    }

    /// The local time in a format.
    fn date(&self, arguments: &Arguments) -> Result<Value> {
        let [format] = arguments.bind(self.heap, ["format"])?;
        let format = required(format, "format")?;
        let format = text(&format, "format")?;
        if format.len() > SHORT {
            return Err(TemplateError::new("the format of a date is too long"));
        }
        // Each character may be a conversion, and those take long.
        self.heap.spend(32 * format.len())?;
        self.heap.text(&strftime(format, self.now))
    }

    fn range(&self, arguments: &Arguments) -> Result<Value> {
        let [start, stop, step] = arguments.bind(self.heap, ["start", "stop", "step"])?;
        let (start, stop) = match stop {
            Some(_) => (int(&start, "start", 0)?, int(&stop, "stop", 0)?),
            None => (0, int(&Some(required(start, "stop")?), "stop", 0)?),
        };
        let step = int(&step, "step", 1)?;
        if step == 0 {
            return Err(TemplateError::new("the step of a range is zero"));
        }
        let mut list = self.heap.list_builder()?;
        let mut at = start;
        while if step > 0 { at < stop } else { at > stop } {
            if list.items().len() as i64 >= RANGE {
                return Err(TemplateError::new(format!("a range has more than {RANGE} items")));
            }
            list.push(Value::Int(at))?;
            let Some(next) = at.checked_add(step) else { break };
            at = next;
        }
        Ok(list.finish())
    }

    #[inline(never)]
    fn call_macro(&mut self, state: MacroState, arguments: Arguments) -> Result<Value> {
        let (program, heap) = (self.program, self.heap);
        let found = &program.macros[state.index];
        let positional = arguments.positional.items();
        self.scopes.open(state.scope);
        for (index, (parameter, default)) in found.parameters.iter().enumerate() {
            let named = arguments.named(heap, self.name_text(*parameter))?;
            let value = match (positional.get(index), named, default) {
                (Some(_), Some(_), _) => {
                    return Err(TemplateError::new("a macro's argument is given twice"));
                }
                (Some(value), None, _) => value.clone(),
                (None, Some(value), _) => value,
                // It may name parameters in front of it.
                (None, None, Some(default)) => self.evaluate(default)?,
                (None, None, None) => Value::Undefined,
            };
            self.scopes.set(*parameter, value)?;
        }
        self.set_extra_arguments(found, &arguments)?;
        let (_, text) = self.written(|interpreter| interpreter.body(&found.body))?;
        self.scopes.close();
        Ok(text)
    }

    /// Sets `caller`, `varargs` and `kwargs` to the arguments that are no parameters of a macro.
    fn set_extra_arguments(&mut self, found: &'p Macro, arguments: &Arguments) -> Result<()> {
        let heap = self.heap;
        let too_many = || TemplateError::new("a macro is given more arguments than it takes");
        let rest = arguments.positional.items().get(found.parameters.len()..).unwrap_or_default();
        match self.known("varargs") {
            Some(name) => {
                let mut list = heap.list_builder()?;
                list.extend(rest)?;
                self.scopes.set(name, list.finish_as(ListKind::Tuple))?;
            }
            None if !rest.is_empty() => return Err(too_many()),
            None => {}
        }
        let named = arguments.named.entries();
        heap.spend(named.len() * found.parameters.len() / 8)?;
        let mut map = heap.map_builder()?;
        for (key, value) in named {
            let key_text = key.as_str().unwrap_or_default();
            let is = |parameter: &Name| self.name_text(*parameter) == key_text;
            if found.parameters.iter().any(|(parameter, _)| is(parameter)) {
                continue;
            }
            match self.known("caller").filter(is) {
                Some(name) => self.scopes.set(name, value.clone())?,
                None => map.push(key.clone(), value.clone())?,
            }
        }
        match self.known("kwargs") {
            Some(name) => self.scopes.set(name, map.finish()),
            None if !map.entries().is_empty() => Err(too_many()),
            None => Ok(()),
        }
    }

    /// `loop(items)` runs the loop over other items.
    #[inline(never)]
    fn call_loop(&mut self, state: LoopState, arguments: Arguments) -> Result<Value> {
        let Some((index, around)) = state.again else {
            return Err(TemplateError::new("the loop is not recursive"));
        };
        let [list] = arguments.bind(self.heap, ["iterable"])?;
        let list = required(list, "iterable")?;
        Ok(self.written(|interpreter| interpreter.repeat(index, &list, state.depth + 1, around))?.1)
    }

    /// `value.name`.
    #[inline(never)]
    pub(super) fn attribute(&mut self, value: &Value, name: Name) -> Result<Value> {
        let interned = name;
        let name = self.name_text(name);
        match value {
            Value::Object(index) => match self.heap.with(*index, Object::clone_unless_namespace) {
                Some(Object::Loop(state)) => self.loop_attribute(&state, name),
                Some(Object::Cycler(values, at)) if name == "current" => {
                    Ok(values.items[at].clone())
                }
                Some(Object::Macro(state)) if name == "name" => {
                    self.heap.text(self.name_text(self.program.macros[state.index].name))
                }
                _ => attribute(self.heap, value, name),
            },
            Value::Function(Function::Blocks) => {
                self.heap.spend(self.program.blocks.len())?;
                let mut blocks = self.program.blocks.iter();
                let index = blocks.position(|(known, _)| *known == interned);
                Ok(index.map_or(Value::Undefined, |index| Value::Function(Function::Block(index))))
            }
            _ => attribute(self.heap, value, name),
        }
    }

    fn loop_attribute(&self, state: &LoopState, name: &str) -> Result<Value> {
        let (items, index) = (&state.items.items, state.index);
        let length = items.len();
        let neighbour = |index: Option<usize>| {
            let item = index.and_then(|index| items.get(index));
            Ok(item.cloned().unwrap_or(Value::Undefined))
        };
        let number = match name {
            "index" => index + 1,
            "index0" => index,
            "revindex" => length - index,
            "revindex0" => length - index - 1,
            "length" => length,
            "depth" => state.depth + 1,
            "depth0" => state.depth,
            "first" => return Ok(Value::Bool(index == 0)),
            "last" => return Ok(Value::Bool(index + 1 == length)),
            "previtem" => return neighbour(index.checked_sub(1)),
            "nextitem" => return neighbour(Some(index + 1)),
            _ => return Ok(Value::Undefined),
        };
        Ok(Value::Int(number as i64))
    }

    /// `value.name(arguments)`.
    pub(super) fn call_method(
        &mut self,
        value: &Value,
        name: Name,
        arguments: Arguments,
    ) -> Result<Value> {
        let text = self.name_text(name);
        if let Some(found) = methods::call(self.heap, value, text, &arguments)? {
            return Ok(found);
        }
        if let Value::Object(index) = value
            && let Some(found) = self.object_method(*index, text, &arguments)?
        {
            return Ok(found);
        }
        let found = self.attribute(value, name)?;
        if found.is_undefined() {
            let short: String = text.chars().take(40).collect();
            return Err(TemplateError::new(format!("{} has no method `{short}`", value.kind())));
        }
        self.call(&found, arguments)
    }

    #[inline(never)]
    fn object_method(
        &mut self,
        index: usize,
        name: &str,
        arguments: &Arguments,
    ) -> Result<Option<Value>> {
        let heap = self.heap;
        let next = match (heap.with(index, Object::clone_unless_namespace), name) {
            (Some(Object::Loop(state)), "cycle") => {
                let values = arguments.positional.items();
                let at = state.index.checked_rem(values.len());
                let at =
                    at.ok_or_else(|| TemplateError::new("`cycle` takes at least one value"))?;
                return Ok(Some(values[at].clone()));
            }
            (Some(Object::Loop(state)), "changed") => {
                let asked = heap.list(arguments.positional.items().iter().cloned())?;
                let is_new = !equal(heap, &asked, &state.seen)?;
                let state = LoopState { seen: asked, ..state };
                (Object::Loop(state), Value::Bool(is_new))
            }
            (Some(Object::Cycler(values, at)), "next") => {
                let (current, next) = (values.items[at].clone(), (at + 1) % values.items.len());
                (Object::Cycler(values, next), current)
            }
            (Some(Object::Cycler(values, _)), "reset") => (Object::Cycler(values, 0), Value::None),
            _ => return Ok(None),
        };
        let (object, value) = next;
        let old = heap.change(index, |known| std::mem::replace(known, object));
        drop(old);
        Ok(Some(value))
    }
}
