//! Values of expressions.

use super::super::access::{item, iterate, slice};
use super::super::arguments::Arguments;
use super::super::ast::{
    Argument, ArgumentList, Binary, Call, Comparison, Constant, Expression, Name, Postfix, Unary,
};
use super::super::compare::insert;
use super::super::error::{Result, TemplateError};
use super::super::filters;
use super::super::jinja_tests;
use super::super::operators::{binary, compare, unary};
use super::super::value::{Function, ListKind, Value};
use super::Interpreter;

impl<'p> Interpreter<'p> {
    /// The value of an expression. This frame is the one that nests, so it is kept small: each kind of expression has its
    /// own function.
    pub(super) fn evaluate(&mut self, expression: &'p Expression) -> Result<Value> {
        self.heap.meter().enter()?;
        let value = match expression {
            Expression::Constant(constant) => self.constant(constant),
            Expression::Variable(name) => self.variable(*name),
            Expression::List(items) => self.list(items, ListKind::List),
            Expression::Tuple(items) => self.list(items, ListKind::Tuple),
            Expression::Map(entries) => self.map(entries),
            Expression::And(operands) => self.first(operands, false),
            Expression::Or(operands) => self.first(operands, true),
            Expression::Compare(first, rest) => self.compare(first, rest),
            Expression::Binary(first, rest) => self.binary(first, rest),
            Expression::Unary(operators, operand) => self.unary(operators, operand),
            Expression::If(cases, otherwise) => self.chosen_case(cases, otherwise.as_deref()),
            Expression::Postfix(first, rest) => self.postfix(first, rest),
        }?;
        self.heap.meter().leave();
        Ok(value)
    }

    fn constant(&self, constant: &'p Constant) -> Result<Value> {
        Ok(match constant {
            Constant::None => Value::None,
            Constant::Bool(value) => Value::Bool(*value),
            Constant::Int(value) => Value::Int(*value),
            Constant::Float(value) => Value::Float(*value),
            Constant::Text(text) => self.heap.literal(text)?,
        })
    }

    /// The value of a variable, or the function of that name.
    pub(super) fn variable(&self, name: Name) -> Result<Value> {
        if let Some(value) = self.scopes.get(name)? {
            return Ok(value);
        }
        let function = Function::named(self.name_text(name));
        Ok(function.map_or(Value::Undefined, Value::Function))
    }

    #[inline(never)]
    fn list(&mut self, items: &'p [Expression], kind: ListKind) -> Result<Value> {
        let mut list = self.heap.list_builder()?;
        for item in items {
            list.push(self.evaluate(item)?)?;
        }
        Ok(list.finish_as(kind))
    }

    #[inline(never)]
    fn map(&mut self, entries: &'p [(Expression, Expression)]) -> Result<Value> {
        let mut map = self.heap.map_builder()?;
        for (key, value) in entries {
            let (key, value) = (self.evaluate(key)?, self.evaluate(value)?);
            insert(self.heap, &mut map, key, value)?;
        }
        Ok(map.finish())
    }

    /// The first operand whose truth is `is_true`, or the last.
    #[inline(never)]
    fn first(&mut self, operands: &'p [Expression], is_true: bool) -> Result<Value> {
        let mut value = Value::Undefined;
        for operand in operands {
            value = self.evaluate(operand)?;
            if value.is_true() == is_true {
                break;
            }
        }
        Ok(value)
    }

    #[inline(never)]
    fn compare(
        &mut self,
        first: &'p Expression,
        rest: &'p [(Comparison, Expression)],
    ) -> Result<Value> {
        let mut left = self.evaluate(first)?;
        for (operator, right) in rest {
            let right = self.evaluate(right)?;
            if !compare(self.heap, *operator, &left, &right)? {
                return Ok(Value::Bool(false));
            }
            left = right;
        }
        Ok(Value::Bool(true))
    }

    #[inline(never)]
    fn binary(&mut self, first: &'p Expression, rest: &'p [(Binary, Expression)]) -> Result<Value> {
        let mut left = self.evaluate(first)?;
        for (operator, right) in rest {
            let right = self.evaluate(right)?;
            left = binary(self.heap, *operator, &left, &right)?;
        }
        Ok(left)
    }

    #[inline(never)]
    fn unary(&mut self, operators: &'p [Unary], operand: &'p Expression) -> Result<Value> {
        let mut value = self.evaluate(operand)?;
        for operator in operators.iter().rev() {
            value = unary(*operator, &value)?;
        }
        Ok(value)
    }

    #[inline(never)]
    fn chosen_case(
        &mut self,
        cases: &'p [(Expression, Expression)],
        otherwise: Option<&'p Expression>,
    ) -> Result<Value> {
        for (value, condition) in cases {
            if self.evaluate(condition)?.is_true() {
                return self.evaluate(value);
            }
        }
        otherwise.map_or(Ok(Value::Undefined), |value| self.evaluate(value))
    }

    #[inline(never)]
    fn postfix(&mut self, first: &'p Expression, rest: &'p [Postfix]) -> Result<Value> {
        let mut value = self.evaluate(first)?;
        for postfix in rest {
            self.heap.spend(1)?;
            value = match postfix {
                Postfix::Attribute(name) => self.attribute(&value, *name)?,
                Postfix::Item(key) => {
                    let key = self.evaluate(key)?;
                    item(self.heap, &value, &key)?
                }
                Postfix::Slice(bounds) => self.slice(&value, bounds)?,
                Postfix::Call(arguments) => {
                    let arguments = self.arguments(arguments)?;
                    self.call(&value, arguments)?
                }
                Postfix::Method(call) => self.method(&value, call)?,
                Postfix::Filter(call) => self.filter(&value, call)?,
                Postfix::Test(call, is_negated) => self.test(&value, call, *is_negated)?,
            };
        }
        Ok(value)
    }

    #[inline(never)]
    fn slice(&mut self, value: &Value, bounds: &'p [Option<Expression>; 3]) -> Result<Value> {
        let mut evaluated = [const { None }; 3];
        for (place, bound) in evaluated.iter_mut().zip(bounds) {
            *place = bound.as_ref().map(|bound| self.evaluate(bound)).transpose()?;
        }
        slice(self.heap, value, evaluated.each_ref().map(Option::as_ref))
    }

    #[inline(never)]
    fn method(&mut self, value: &Value, call: &'p Call) -> Result<Value> {
        let arguments = self.arguments(&call.arguments)?;
        self.call_method(value, call.name, arguments).map_err(|error| error.at(call.line))
    }

    #[inline(never)]
    fn filter(&mut self, value: &Value, call: &'p Call) -> Result<Value> {
        let arguments = self.arguments(&call.arguments)?;
        let name = self.name_text(call.name);
        filters::apply(self.heap, name, value, &arguments).map_err(|error| error.at(call.line))
    }

    #[inline(never)]
    fn test(&mut self, value: &Value, call: &'p Call, is_negated: bool) -> Result<Value> {
        let arguments = self.arguments(&call.arguments)?;
        let holds = jinja_tests::test(self.heap, self.name_text(call.name), value, &arguments);
        Ok(Value::Bool(holds.map_err(|error| error.at(call.line))? != is_negated))
    }

    /// The arguments of a call.
    #[inline(never)]
    pub(super) fn arguments(&mut self, list: &'p ArgumentList) -> Result<Arguments> {
        let heap = self.heap;
        let mut arguments = Arguments::new(heap)?;
        for argument in &list.list {
            match argument {
                Argument::Positional(value) => arguments.positional.push(self.evaluate(value)?)?,
                Argument::UnpackedList(values) => {
                    let values = self.evaluate(values)?;
                    arguments.positional.extend(&iterate(heap, &values)?.items)?;
                }
                Argument::Named(name, value) => {
                    let (name, value) = (heap.text(self.name_text(*name))?, self.evaluate(value)?);
                    insert(heap, &mut arguments.named, name, value)?;
                }
                Argument::UnpackedMap(values) => {
                    let Value::Map(map) = self.evaluate(values)? else {
                        return Err(TemplateError::new("what stands behind `**` is not a dict"));
                    };
                    for (name, value) in &map.entries {
                        if name.as_str().is_none() {
                            return Err(TemplateError::new(
                                "the name of an argument is not a string",
                            ));
                        }
                        insert(heap, &mut arguments.named, name.clone(), value.clone())?;
                    }
                }
            }
        }
        if let Some(caller) = list.caller {
            let caller = self.define(caller)?;
            insert(heap, &mut arguments.named, heap.text("caller")?, caller)?;
        }
        Ok(arguments)
    }
}
