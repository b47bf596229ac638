//! Filters, tests and the arguments of calls.

use super::super::ast::{Argument, ArgumentList, Call, Postfix};
use super::super::error::{Result, TemplateError};
use super::super::lexer::Token;
use super::Parser;
use super::expression::applied;

impl<'s> Parser<'s> {
    /// A filter after its `|`.
    pub(super) fn filter(&mut self) -> Result<Call> {
        self.count_operator()?;
        let line = self.line();
        let name = self.expect_name("a filter")?;
        if self.is_op(".") {
            return Err(self.unexpected("no attribute of a filter"));
        }
        let name = self.intern(name);
        let arguments = if self.is_op("(") { self.arguments()? } else { ArgumentList::default() };
        Ok(Call { line, name, arguments })
    }

    /// A test after its `is`.
    pub(super) fn test(&mut self) -> Result<Postfix> {
        self.count_operator()?;
        let is_negated = self.skip_word("not");
        let line = self.line();
        let name = self.expect_name("a test")?;
        let name = self.intern(name);
        let mut arguments = ArgumentList::default();
        match self.peek() {
            Some(Token::Op("(")) => arguments = self.arguments()?,
            Some(Token::Name("is")) => return Err(self.unexpected("no test of a test")),
            Some(Token::Name("else" | "or" | "and" | "if" | "in" | "not")) => {}
            Some(
                Token::Name(_)
                | Token::Text(_)
                | Token::Int(_)
                | Token::Float(_)
                | Token::Op("[" | "{"),
            ) => {
                // `is divisibleby 3`.
                let value = self.primary()?;
                let behind = self.postfix()?;
                arguments.list.push(Argument::Positional(applied(value, behind)));
            }
            _ => {}
        }
        Ok(Postfix::Test(Call { line, name, arguments }, is_negated))
    }

    pub(super) fn arguments(&mut self) -> Result<ArgumentList> {
        self.count_operator()?;
        self.expect_op("(")?;
        let mut list = Vec::new();
        let mut order = ArgumentOrder::default();
        while !self.skip_op(")") {
            let argument = self.nested(Self::argument)?;
            order.check(&argument)?;
            list.push(argument);
            if !self.is_op(")") {
                self.expect_op(",")?;
            }
        }
        Ok(ArgumentList { list, caller: None })
    }

    fn argument(&mut self) -> Result<Argument> {
        if self.skip_op("*") {
            return Ok(Argument::UnpackedList(self.expression()?));
        }
        if self.skip_op("**") {
            return Ok(Argument::UnpackedMap(self.expression()?));
        }
        let behind = self.tokens.get(self.at + 1).map(|(token, _)| token);
        if let (Some(Token::Name(name)), Some(Token::Op("="))) = (self.peek(), behind) {
            self.at += 2;
            let name = self.intern(name);
            return Ok(Argument::Named(name, self.expression()?));
        }
        Ok(Argument::Positional(self.expression()?))
    }
}

/// The kinds of arguments that a call has had. Jinja2 takes them in certain orders only.
#[derive(Default)]
struct ArgumentOrder {
    has_named: bool,
    has_list: bool,
    has_map: bool,
}

impl ArgumentOrder {
    /// Looks at the next argument.
    fn check(&mut self, argument: &Argument) -> Result<()> {
        let is_misplaced = match argument {
            Argument::Positional(_) => self.has_named || self.has_list || self.has_map,
            Argument::Named(..) => self.has_map,
            Argument::UnpackedList(_) => self.has_list || self.has_map,
            Argument::UnpackedMap(_) => self.has_map,
        };
        if is_misplaced {
            return Err(TemplateError::new("the arguments of a call are in the wrong order"));
        }
        self.has_named |= matches!(argument, Argument::Named(..));
        self.has_list |= matches!(argument, Argument::UnpackedList(_));
        self.has_map |= matches!(argument, Argument::UnpackedMap(_));
        Ok(())
    }
}
