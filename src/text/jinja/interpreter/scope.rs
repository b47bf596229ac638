//! Variables, in scopes.
//!
//! Loops, macros and blocks open a scope; variables set inside are gone after it. A scope sees the variables of the
//! scope around it in the source; for a macro that is not the scope of its caller.

use super::super::ast::Name;
use super::super::error::Result;
use super::super::heap::Heap;
use super::super::meter::Held;
use super::super::value::Value;

/// Identifies a scope: its index, and a number that no other scope has.
pub type ScopeId = (usize, u64);

/// The bytes that a variable takes.
const VARIABLE: usize = size_of::<(Name, Value)>();

/// All scopes that are open.
pub struct Scopes {
    /// Those of all scopes, the innermost last.
    variables: Vec<(Name, Value)>,
    scopes: Vec<Scope>,
    opened: u64,
    held: Held,
}

struct Scope {
    /// Where its variables begin.
    start: usize,
    /// The scope around it.
    parent: Option<usize>,
    number: u64,
}

impl Scopes {
    /// One scope without variables.
    ///
    /// # Errors
    /// If no bytes are left.
    pub fn new(heap: &Heap) -> Result<Self> {
        let held = heap.meter().hold(0)?;
        let outermost = Scope { start: 0, parent: None, number: 0 };
        Ok(Self { variables: Vec::new(), scopes: vec![outermost], opened: 1, held })
    }

    /// The innermost scope.
    pub fn current(&self) -> ScopeId {
        let index = self.scopes.len() - 1;
        (index, self.scopes[index].number)
    }

    /// Opens a scope inside this one, or inside the outermost if this one was closed.
    pub fn open(&mut self, (index, number): ScopeId) {
        let is_open = self.scopes.get(index).is_some_and(|scope| scope.number == number);
        let parent = Some(if is_open { index } else { 0 });
        self.scopes.push(Scope { start: self.variables.len(), parent, number: self.opened });
        self.opened += 1;
    }

    /// Opens a scope inside the innermost.
    pub fn open_inner(&mut self) {
        self.open(self.current());
    }

    /// Closes the innermost scope.
    pub fn close(&mut self) {
        if let Some(scope) = self.scopes.pop() {
            self.held.shrink((self.variables.len() - scope.start) * VARIABLE);
            self.variables.truncate(scope.start);
        }
    }

    /// Sets a variable of the innermost scope.
    ///
    /// # Errors
    /// If no bytes or steps are left.
    pub fn set(&mut self, name: Name, value: Value) -> Result<()> {
        let start = self.scopes.last().map_or(0, |scope| scope.start);
        let own = &mut self.variables[start..];
        self.held.meter().spend(own.len() / 8)?;
        match own.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => {
                self.held.grow(VARIABLE)?;
                self.variables.push((name, value));
            }
        }
        Ok(())
    }

    /// A variable of the innermost scope or one around it.
    ///
    /// # Errors
    /// If no steps are left.
    pub fn get(&self, name: Name) -> Result<Option<Value>> {
        let mut index = Some(self.scopes.len() - 1);
        let mut looked_at = 0;
        while let Some(at) = index {
            let scope = &self.scopes[at];
            let end = self.scopes.get(at + 1).map_or(self.variables.len(), |inner| inner.start);
            let own = &self.variables[scope.start..end];
            looked_at += 1 + own.len();
            if let Some((_, value)) = own.iter().find(|(known, _)| *known == name) {
                self.held.meter().spend(looked_at / 8)?;
                return Ok(Some(value.clone()));
            }
            index = scope.parent;
        }
        self.held.meter().spend(looked_at / 8)?;
        Ok(None)
    }
}
