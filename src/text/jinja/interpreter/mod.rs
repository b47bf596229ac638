//! Runs a program: statements here, expressions in `expression.rs`, calls in `call.rs`, variables in
//! `scope.rs`.

mod call;
mod expression;
mod scope;

use std::rc::Rc;

use jiff::civil::DateTime;

use super::access::iterate;
use super::ast::{
    Call, Expression, IMPLICIT_NAMES, Name, Program, Statement, StatementKind, Target,
};
use super::compare::find_name;
use super::display::display;
use super::error::{Result, TemplateError};
use super::filters;
use super::heap::{Heap, LoopState, MacroState, Object};
use super::spans::Rendered;
use super::value::{List, TextBuilder, Value};
use scope::{ScopeId, Scopes};

/// A program, its values and its output.
pub struct Interpreter<'p> {
    program: &'p Program,
    heap: &'p Heap,
    scopes: Scopes,
    /// The text, then the texts that are captured inside, the innermost last.
    outputs: Vec<TextBuilder>,
    /// The local time that `strftime_now` writes.
    now: DateTime,
}

/// How a body ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

impl<'p> Interpreter<'p> {
    /// A program with these variables.
    ///
    /// # Errors
    /// If no bytes are left.
    pub fn new(
        program: &'p Program,
        heap: &'p Heap,
        variables: &[(&str, Value)],
        now: DateTime,
    ) -> Result<Self> {
        let scopes = Scopes::new(heap)?;
        let outputs = vec![heap.text_builder()?];
        let mut interpreter = Self { program, heap, scopes, outputs, now };
        for (index, name) in program.names.iter().enumerate() {
            if let Some((_, value)) = variables.iter().find(|(known, _)| known == name) {
                interpreter.scopes.set(index as Name, value.clone())?;
            }
        }
        Ok(interpreter)
    }

    /// Runs the program; returns its text.
    ///
    /// # Errors
    /// If it fails.
    pub fn run(mut self) -> Result<Rendered> {
        self.body(&self.program.body)?;
        let (text, own) = self.outputs.swap_remove(0).into_parts();
        Ok(Rendered { text, own })
    }

    /// The index of one of [`IMPLICIT_NAMES`], if the program names it.
    fn known(&self, name: &str) -> Option<Name> {
        self.program.known[IMPLICIT_NAMES.iter().position(|known| *known == name)?]
    }

    fn name_text(&self, name: Name) -> &'p str {
        &self.program.names[name as usize]
    }

    /// The innermost text.
    fn output(&mut self) -> &mut TextBuilder {
        self.outputs.last_mut().expect("the text itself is always there")
    }

    fn body(&mut self, body: &'p [Statement]) -> Result<Flow> {
        self.heap.meter().enter()?;
        for statement in body {
            let flow = self.statement(&statement.kind).map_err(|error| error.at(statement.line))?;
            if flow != Flow::Next {
                self.heap.meter().leave();
                return Ok(flow);
            }
        }
        self.heap.meter().leave();
        Ok(Flow::Next)
    }

    fn statement(&mut self, statement: &'p StatementKind) -> Result<Flow> {
        self.heap.spend(1)?;
        match statement {
            StatementKind::Text(text) => self.output().push_literal(text)?,
            StatementKind::Print(value) => self.write(value)?,
            StatementKind::Do(value) => drop(self.evaluate(value)?),
            StatementKind::If(branches, otherwise) => {
                for (condition, body) in branches {
                    if self.evaluate(condition)?.is_true() {
                        return self.body(body);
                    }
                }
                return self.body(otherwise);
            }
            StatementKind::For(index) => {
                let list = self.evaluate(&self.program.loops[*index].items)?;
                let scope = self.scopes.current();
                return self.repeat(*index, &list, 0, scope);
            }
            StatementKind::Break => return Ok(Flow::Break),
            StatementKind::Continue => return Ok(Flow::Continue),
            StatementKind::Set(target, value) => {
                let value = self.evaluate(value)?;
                self.assign(target, value)?;
            }
            StatementKind::Capture(target, filters, body) => {
                let (flow, value) = self.captured(body, filters)?;
                if flow != Flow::Next {
                    return Ok(flow);
                }
                self.assign(target, value)?;
            }
            StatementKind::Filter(filters, body) => {
                let (flow, value) = self.captured(body, filters)?;
                self.display(&value)?;
                return Ok(flow);
            }
            StatementKind::With(values, body) => return self.with(values, body),
            StatementKind::Macro(index) => {
                let value = self.define(*index)?;
                self.scopes.set(self.program.macros[*index].name, value)?;
            }
            StatementKind::Block(index) => {
                return self.scoped(self.scopes.current(), &self.program.blocks[*index].1);
            }
            StatementKind::Scope(body) => return self.scoped(self.scopes.current(), body),
        }
        Ok(Flow::Next)
    }

    fn write(&mut self, value: &'p Expression) -> Result<()> {
        let value = self.evaluate(value)?;
        self.display(&value)
    }

    fn display(&mut self, value: &Value) -> Result<()> {
        let heap = self.heap;
        display(heap, value, self.output())
    }

    /// A body in a scope of its own.
    fn scoped(&mut self, around: ScopeId, body: &'p [Statement]) -> Result<Flow> {
        self.scopes.open(around);
        let flow = self.body(body)?;
        self.scopes.close();
        Ok(flow)
    }

    /// The text that a body writes, through filters.
    fn captured(&mut self, body: &'p [Statement], filters: &'p [Call]) -> Result<(Flow, Value)> {
        let around = self.scopes.current();
        let (flow, mut value) = self.written(|interpreter| interpreter.scoped(around, body))?;
        for filter in filters {
            let arguments = self.arguments(&filter.arguments)?;
            let name = self.name_text(filter.name);
            value = filters::apply(self.heap, name, &value, &arguments)
                .map_err(|error| error.at(filter.line))?;
        }
        Ok((flow, value))
    }

    /// The text that a function writes.
    fn written<T>(&mut self, write: impl FnOnce(&mut Self) -> Result<T>) -> Result<(T, Value)> {
        self.outputs.push(self.heap.text_builder()?);
        let found = write(self)?;
        let text = self.outputs.pop().expect("it was pushed above and is popped nowhere else");
        Ok((found, text.finish()))
    }

    fn with(&mut self, values: &'p [(Target, Expression)], body: &'p [Statement]) -> Result<Flow> {
        let mut evaluated = self.heap.list_builder()?;
        for (_, value) in values {
            evaluated.push(self.evaluate(value)?)?;
        }
        self.scopes.open_inner();
        for ((target, _), value) in values.iter().zip(evaluated.items()) {
            self.assign(target, value.clone())?;
        }
        let flow = self.body(body)?;
        self.scopes.close();
        Ok(flow)
    }

    fn assign(&mut self, target: &'p Target, value: Value) -> Result<()> {
        match target {
            Target::Name(name) => self.scopes.set(*name, value),
            Target::Attribute(variable, attribute) => {
                self.set_attribute(*variable, *attribute, value)
            }
            Target::Items(targets) => {
                let list = iterate(self.heap, &value)?;
                if list.items.len() != targets.len() {
                    let (found, wanted) = (list.items.len(), targets.len());
                    return Err(TemplateError::new(format!(
                        "{wanted} values are wanted, there are {found}"
                    )));
                }
                for (target, value) in targets.iter().zip(&list.items) {
                    self.assign(target, value.clone())?;
                }
                Ok(())
            }
        }
    }

    fn set_attribute(&mut self, variable: Name, attribute: Name, value: Value) -> Result<()> {
        let heap = self.heap;
        let name = self.name_text(attribute);
        let found = match self.variable(variable)? {
            Value::Object(index) => heap.with(index, |object| match object {
                Object::Namespace(entries) => Ok(Some((index, find_name(heap, entries, name)?))),
                _ => Ok(None),
            })?,
            _ => None,
        };
        let Some((index, place)) = found else {
            let variable: String = self.name_text(variable).chars().take(40).collect();
            return Err(TemplateError::new(format!("`{variable}` is not a namespace")));
        };
        let key = match place {
            Some(_) => Value::None,
            None => {
                heap.grow(2 * size_of::<Value>())?;
                heap.text(name)?
            }
        };
        // The old value is dropped after the change: dropping it may use the heap.
        let old = heap.change(index, |object| match (object, place) {
            (Object::Namespace(entries), Some(place)) => {
                Some(std::mem::replace(&mut entries[place].1, value))
            }
            (Object::Namespace(entries), None) => {
                entries.push((key, value));
                None
            }
            _ => None,
        });
        drop(old);
        Ok(())
    }

    /// Runs a loop over these items, `depth` loops inside of itself, in that scope.
    fn repeat(
        &mut self,
        index: usize,
        list: &Value,
        depth: usize,
        around: ScopeId,
    ) -> Result<Flow> {
        let program = self.program;
        let heap = self.heap;
        let found = &program.loops[index];
        let list = self.chosen(index, iterate(heap, list)?, around)?;
        if list.items.is_empty() {
            return self.scoped(around, &found.otherwise);
        }
        let state = if found.uses_loop || found.is_recursive {
            let again = found.is_recursive.then_some((index, around));
            let items = list.clone();
            let state = LoopState { items, index: 0, depth, seen: Value::Undefined, again };
            self.known("loop").zip(Some(heap.add(Object::Loop(state))?))
        } else {
            None
        };
        for (at, item) in list.items.iter().enumerate() {
            self.scopes.open(around);
            self.assign(&found.target, item.clone())?;
            if let Some((name, value)) = &state {
                if let Value::Object(object) = value {
                    heap.change(*object, |object| {
                        if let Object::Loop(state) = object {
                            state.index = at;
                        }
                    });
                }
                self.scopes.set(*name, value.clone())?;
            }
            let flow = self.body(&found.body)?;
            self.scopes.close();
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::Next)
    }

    /// The items that a loop's condition lets through.
    fn chosen(&mut self, index: usize, list: Rc<List>, around: ScopeId) -> Result<Rc<List>> {
        let found = &self.program.loops[index];
        let Some(condition) = &found.condition else { return Ok(list) };
        let mut chosen = self.heap.list_builder()?;
        for item in &list.items {
            self.scopes.open(around);
            self.assign(&found.target, item.clone())?;
            let takes_part = self.evaluate(condition)?.is_true();
            self.scopes.close();
            if takes_part {
                chosen.push(item.clone())?;
            }
        }
        Ok(chosen.into_list(list.kind))
    }

    /// A macro that sees the innermost scope.
    fn define(&mut self, index: usize) -> Result<Value> {
        self.heap.add(Object::Macro(MacroState { index, scope: self.scopes.current() }))
    }
}
