//! Expressions, by precedence: `if`, `or`, `and`, `not`, comparisons, `+ -`, `~`, `* / // %`, `**`,
//! signs, postfix operations.

use super::super::ast::{
    ArgumentList, Binary, Call, Comparison, Constant, Expression, Postfix, Unary,
};
use super::super::error::{Result, TemplateError};
use super::super::lexer::Token;
use super::{Parser, shortened};

/// Binary operators, those that bind least first.
const BINARY: [&[(&str, Binary)]; 4] = [
    &[("+", Binary::Add), ("-", Binary::Subtract)],
    &[("~", Binary::Concatenate)],
    &[
        ("*", Binary::Multiply),
        ("/", Binary::Divide),
        ("//", Binary::FloorDivide),
        ("%", Binary::Remainder),
    ],
    &[("**", Binary::Power)],
];

/// Comparisons that are written as operators.
const COMPARISONS: [(&str, Comparison); 6] = [
    ("==", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    ("<", Comparison::Less),
    ("<=", Comparison::LessOrEqual),
    (">", Comparison::Greater),
    (">=", Comparison::GreaterOrEqual),
];

impl Expression {
    /// The arguments of the call that ends this expression.
    pub(super) fn last_call(&mut self) -> Option<&mut ArgumentList> {
        match self {
            Self::Postfix(_, list) => match list.last_mut()? {
                Postfix::Call(arguments) => Some(arguments),
                Postfix::Method(call) => Some(&mut call.arguments),
                _ => None,
            },
            _ => None,
        }
    }
}

impl<'s> Parser<'s> {
    /// One expression, or several with commas between them, which make a tuple.
    pub(super) fn tuple(&mut self) -> Result<Expression> {
        self.items(Self::expression)
    }

    /// The same where an `if` belongs to the statement.
    pub(super) fn tuple_without_if(&mut self) -> Result<Expression> {
        self.items(Self::or)
    }

    fn items(&mut self, item: fn(&mut Self) -> Result<Expression>) -> Result<Expression> {
        let first = item(self)?;
        if !self.is_op(",") {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.skip_op(",") {
            if matches!(self.peek(), None | Some(Token::End(_) | Token::Op(")" | "="))) {
                break;
            }
            items.push(item(self)?);
        }
        Ok(Expression::Tuple(items))
    }

    /// An expression without commas.
    pub(super) fn expression(&mut self) -> Result<Expression> {
        let mut value = self.or()?;
        let mut cases = Vec::new();
        while self.skip_word("if") {
            self.count_operator()?;
            let condition = self.or()?;
            cases.push((value, condition));
            if !self.skip_word("else") {
                return Ok(Expression::If(cases, None));
            }
            value = self.or()?;
        }
        Ok(match cases.is_empty() {
            true => value,
            false => Expression::If(cases, Some(Box::new(value))),
        })
    }

    fn or(&mut self) -> Result<Expression> {
        self.chain("or", Self::and, Expression::Or)
    }

    fn and(&mut self) -> Result<Expression> {
        self.chain("and", Self::not, Expression::And)
    }

    fn chain(
        &mut self,
        word: &str,
        item: fn(&mut Self) -> Result<Expression>,
        make: fn(Vec<Expression>) -> Expression,
    ) -> Result<Expression> {
        let first = item(self)?;
        if !self.is_word(word) {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.skip_word(word) {
            self.count_operator()?;
            items.push(item(self)?);
        }
        Ok(make(items))
    }

    fn not(&mut self) -> Result<Expression> {
        let mut operators = Vec::new();
        while self.skip_word("not") {
            self.count_operator()?;
            operators.push(Unary::Not);
        }
        let value = self.comparison()?;
        Ok(match operators.is_empty() {
            true => value,
            false => Expression::Unary(operators, Box::new(value)),
        })
    }

    fn comparison(&mut self) -> Result<Expression> {
        let first = self.binary(0)?;
        let mut rest = Vec::new();
        while let Some(comparison) = self.comparison_operator() {
            self.count_operator()?;
            rest.push((comparison, self.binary(0)?));
        }
        Ok(match rest.is_empty() {
            true => first,
            false => Expression::Compare(Box::new(first), rest),
        })
    }

    fn comparison_operator(&mut self) -> Option<Comparison> {
        if let Some(Token::Op(op)) = self.peek() {
            let (_, found) = COMPARISONS.into_iter().find(|(known, _)| known == op)?;
            self.at += 1;
            return Some(found);
        }
        if self.skip_word("in") {
            return Some(Comparison::In);
        }
        let behind = self.tokens.get(self.at + 1).map(|(token, _)| token);
        if self.is_word("not") && behind == Some(&Token::Name("in")) {
            self.at += 2;
            return Some(Comparison::NotIn);
        }
        None
    }

    /// Operators of this level of [`BINARY`] and those that bind more.
    fn binary(&mut self, level: usize) -> Result<Expression> {
        let Some(operators) = BINARY.get(level) else { return self.signed() };
        let first = self.binary(level + 1)?;
        let mut rest = Vec::new();
        while let Some(Token::Op(op)) = self.peek() {
            let Some((_, found)) = operators.iter().find(|(known, _)| known == op) else { break };
            self.at += 1;
            self.count_operator()?;
            rest.push((*found, self.binary(level + 1)?));
        }
        Ok(match rest.is_empty() {
            true => first,
            false => Expression::Binary(Box::new(first), rest),
        })
    }

    /// A value with its signs, attributes and calls, and the filters and tests of all that.
    fn signed(&mut self) -> Result<Expression> {
        let mut signs = Vec::new();
        while let Some(Token::Op(op @ ("-" | "+"))) = self.peek() {
            self.at += 1;
            self.count_operator()?;
            signs.push(if *op == "-" { Unary::Negative } else { Unary::Positive });
        }
        let mut value = self.primary()?;
        let mut behind = self.postfix()?;
        if !signs.is_empty() {
            value = Expression::Unary(signs, Box::new(applied(value, behind)));
            behind = Vec::new();
        }
        loop {
            if self.skip_op("|") {
                behind.push(Postfix::Filter(self.filter()?));
            } else if self.skip_word("is") {
                behind.push(self.test()?);
            } else if self.is_op("(") {
                behind.push(Postfix::Call(self.arguments()?));
            } else {
                return Ok(applied(value, behind));
            }
        }
    }

    /// Attributes, items and calls.
    pub(super) fn postfix(&mut self) -> Result<Vec<Postfix>> {
        let mut list = Vec::new();
        loop {
            if self.skip_op(".") {
                self.count_operator()?;
                list.push(self.attribute()?);
            } else if self.skip_op("[") {
                self.count_operator()?;
                let item = self.nested(Self::subscript)?;
                self.expect_op("]")?;
                list.push(item);
            } else if self.is_op("(") {
                list.push(Postfix::Call(self.arguments()?));
            } else {
                return Ok(list);
            }
        }
    }

    fn attribute(&mut self) -> Result<Postfix> {
        if let Some(Token::Int(index)) = self.peek() {
            self.at += 1;
            return Ok(Postfix::Item(Expression::Constant(Constant::Int(*index))));
        }
        let line = self.line();
        let name = self.expect_name("an attribute")?;
        let name = self.intern(name);
        Ok(match self.is_op("(") {
            true => Postfix::Method(Call { line, name, arguments: self.arguments()? }),
            false => Postfix::Attribute(name),
        })
    }

    fn subscript(&mut self) -> Result<Postfix> {
        let mut parts = [None, None, None];
        if !self.is_op(":") {
            let first = self.tuple()?;
            if !self.is_op(":") {
                return Ok(Postfix::Item(first));
            }
            parts[0] = Some(first);
        }
        for part in &mut parts[1..] {
            if !self.skip_op(":") {
                break;
            }
            if !self.is_op(":") && !self.is_op("]") {
                *part = Some(self.expression()?);
            }
        }
        Ok(Postfix::Slice(Box::new(parts)))
    }

    pub(super) fn primary(&mut self) -> Result<Expression> {
        let Some(token) = self.peek() else { return Err(self.unexpected("an expression")) };
        self.at += 1;
        Ok(Expression::Constant(match token {
            Token::Int(value) => Constant::Int(*value),
            Token::Float(value) => Constant::Float(*value),
            Token::Text(text) => {
                let mut text = text.clone();
                while let Some(Token::Text(more)) = self.peek() {
                    self.at += 1;
                    text.push_str(more);
                }
                Constant::Text(text)
            }
            Token::Name("true" | "True") => Constant::Bool(true),
            Token::Name("false" | "False") => Constant::Bool(false),
            Token::Name("none" | "None") => Constant::None,
            Token::Name(name) => return self.variable(name),
            Token::Op("(") => return self.nested(Self::parenthesis),
            Token::Op("[") => return self.nested(Self::list),
            Token::Op("{") => return self.nested(Self::map),
            _ => {
                self.at -= 1;
                return Err(self.unexpected("an expression"));
            }
        }))
    }

    fn variable(&mut self, name: &'s str) -> Result<Expression> {
        if matches!(name, "if" | "else" | "elif" | "in" | "is" | "and" | "or" | "not") {
            let name = shortened(name);
            return Err(TemplateError::new(format!("unexpected `{name}`, expected an expression")));
        }
        self.uses_loop |= name == "loop";
        Ok(Expression::Variable(self.intern(name)))
    }

    fn parenthesis(&mut self) -> Result<Expression> {
        if self.skip_op(")") {
            return Ok(Expression::Tuple(Vec::new()));
        }
        let inner = self.tuple()?;
        self.expect_op(")")?;
        Ok(inner)
    }

    fn list(&mut self) -> Result<Expression> {
        let mut items = Vec::new();
        while !self.skip_op("]") {
            items.push(self.expression()?);
            if !self.is_op("]") {
                self.expect_op(",")?;
            }
        }
        Ok(Expression::List(items))
    }

    fn map(&mut self) -> Result<Expression> {
        let mut items = Vec::new();
        while !self.skip_op("}") {
            let key = self.expression()?;
            self.expect_op(":")?;
            items.push((key, self.expression()?));
            if !self.is_op("}") {
                self.expect_op(",")?;
            }
        }
        Ok(Expression::Map(items))
    }
}

/// A value with its postfix operations.
pub(super) fn applied(value: Expression, mut behind: Vec<Postfix>) -> Expression {
    if behind.is_empty() {
        return value;
    }
    // There are many of them, and most are short.
    behind.shrink_to_fit();
    Expression::Postfix(Box::new(value), behind)
}
