//! Targets of assignments.

use super::super::ast::{Name, Target};
use super::super::error::{Result, TemplateError};
use super::Parser;

impl Parser<'_> {
    /// One target, or several with commas between them; attributes only if asked for.
    pub(super) fn target(&mut self, attributes: bool) -> Result<Target> {
        let first = self.target_item(attributes)?;
        if !self.is_op(",") {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.skip_op(",") && !self.is_op(")") {
            items.push(self.target_item(attributes)?);
        }
        Ok(Target::Items(items))
    }

    fn target_item(&mut self, attributes: bool) -> Result<Target> {
        if self.skip_op("(") {
            let inner = self.nested(|parser| parser.target(attributes))?;
            self.expect_op(")")?;
            return Ok(inner);
        }
        let name = self.expect_name("a variable")?;
        let variable = self.intern(name);
        if attributes && self.skip_op(".") {
            let attribute = self.expect_name("an attribute")?;
            return Ok(Target::Attribute(variable, self.intern(attribute)));
        }
        self.assignable(name, variable)
    }

    pub(super) fn target_name(&mut self) -> Result<Target> {
        let name = self.expect_name("a variable")?;
        let variable = self.intern(name);
        self.assignable(name, variable)
    }

    fn assignable(&self, name: &str, variable: Name) -> Result<Target> {
        match name {
            "true" | "True" | "false" | "False" | "none" | "None" => {
                Err(TemplateError::new(format!("unexpected `{name}`, expected a variable")))
            }
            _ => Ok(Target::Name(variable)),
        }
    }
}
