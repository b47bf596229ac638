//! Tokens to a [`Program`]: the statements. `expression.rs` and `target.rs` have what they consist of.

mod call;
mod expression;
mod target;

use std::collections::{HashMap, HashSet};

use super::ast::{
    Call, Expression, IMPLICIT_NAMES, Loop, Macro, Name, Program, Statement, StatementKind, Target,
};
use super::error::{Result, TemplateError};
use super::lexer::{self, Tag, Token};
use super::meter::{NESTING, OPERATORS, SOURCE_BYTES};

/// Parses a source, whose line ends are `\n`.
///
/// # Errors
/// If it is not a template, too long, or nested too deeply.
pub fn parse(source: &str) -> Result<Program> {
    if source.len() > SOURCE_BYTES {
        return Err(TemplateError::new(format!("it is longer than {SOURCE_BYTES} bytes")));
    }
    let tokens = lexer::tokens(source)?;
    let mut parser = Parser {
        tokens: &tokens,
        at: 0,
        program: Program::default(),
        names: HashMap::new(),
        blocks: HashSet::new(),
        nesting: 0,
        operators: 0,
        is_in_loop: false,
        uses_loop: false,
    };
    match parser.body(&[]) {
        Ok(body) => {
            let known = IMPLICIT_NAMES.map(|name| parser.names.get(name).copied());
            Ok(Program { body, known, ..parser.program })
        }
        Err(error) => Err(error.at(parser.line())),
    }
}

struct Parser<'s> {
    tokens: &'s [(Token<'s>, u32)],
    at: usize,
    program: Program,
    names: HashMap<&'s str, Name>,
    /// Names of blocks.
    blocks: HashSet<Name>,
    /// Open brackets and blocks.
    nesting: usize,
    /// Operators of this tag.
    operators: usize,
    is_in_loop: bool,
    /// Whether `loop` was named since this was last reset.
    uses_loop: bool,
}

impl<'s> Parser<'s> {
    fn peek(&self) -> Option<&'s Token<'s>> {
        self.tokens.get(self.at).map(|(token, _)| token)
    }

    /// The line of the next token, or of the last one.
    fn line(&self) -> u32 {
        let token = self.tokens.get(self.at).or(self.tokens.last());
        token.map_or(1, |(_, line)| *line)
    }

    fn is_op(&self, op: &str) -> bool {
        matches!(self.peek(), Some(Token::Op(found)) if *found == op)
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Some(Token::Name(found)) if *found == word)
    }

    fn skip_op(&mut self, op: &str) -> bool {
        let found = self.is_op(op);
        self.at += usize::from(found);
        found
    }

    fn skip_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        self.at += usize::from(found);
        found
    }

    fn expect_op(&mut self, op: &str) -> Result<()> {
        if self.skip_op(op) { Ok(()) } else { Err(self.unexpected(&format!("`{op}`"))) }
    }

    fn expect_word(&mut self, word: &str) -> Result<()> {
        if self.skip_word(word) { Ok(()) } else { Err(self.unexpected(&format!("`{word}`"))) }
    }

    fn expect_end(&mut self, tag: Tag) -> Result<()> {
        if self.peek() == Some(&Token::End(tag)) {
            self.at += 1;
            return Ok(());
        }
        Err(self.unexpected(if tag == Tag::Block { "`%}`" } else { "`}}`" }))
    }

    fn expect_name(&mut self, what: &str) -> Result<&'s str> {
        let Some(Token::Name(name)) = self.peek() else { return Err(self.unexpected(what)) };
        self.at += 1;
        Ok(name)
    }

    /// An error that names the next token.
    fn unexpected(&self, expected: &str) -> TemplateError {
        let found = match self.peek() {
            None => "end of the template".to_owned(),
            Some(Token::Data(_)) => "text".to_owned(),
            Some(Token::Begin(Tag::Block)) => "`{%`".to_owned(),
            Some(Token::Begin(Tag::Print)) => "`{{`".to_owned(),
            Some(Token::End(Tag::Block)) => "`%}`".to_owned(),
            Some(Token::End(Tag::Print)) => "`}}`".to_owned(),
            Some(Token::Name(name)) => format!("`{}`", shortened(name)),
            Some(Token::Text(_)) => "string".to_owned(),
            Some(Token::Int(_) | Token::Float(_)) => "number".to_owned(),
            Some(Token::Op(op)) => format!("`{op}`"),
        };
        TemplateError::new(format!("unexpected {found}, expected {expected}"))
    }

    /// The index of a name in the program.
    fn intern(&mut self, name: &'s str) -> Name {
        let names = &mut self.program.names;
        *self.names.entry(name).or_insert_with(|| {
            names.push(name.to_owned());
            (names.len() - 1) as Name
        })
    }

    /// Counts an operator of this tag.
    fn count_operator(&mut self) -> Result<()> {
        self.operators += 1;
        if self.operators > OPERATORS {
            return Err(TemplateError::new(format!("a tag has more than {OPERATORS} operators")));
        }
        Ok(())
    }

    /// Parses one bracket or block deeper.
    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.nesting += 1;
        if self.nesting > NESTING {
            return Err(TemplateError::new(format!(
                "it is nested more than {NESTING} levels deep"
            )));
        }
        let found = parse(self)?;
        self.nesting -= 1;
        Ok(found)
    }

    /// Parses statements up to a block tag whose first word is in `ends`; that word is then the next token. Without `ends`, up
    /// to the end of the template.
    fn body(&mut self, ends: &[&str]) -> Result<Vec<Statement>> {
        self.nested(|parser| {
            let mut body = Vec::new();
            while let Some((token, line)) = parser.tokens.get(parser.at) {
                parser.at += 1;
                parser.operators = 0;
                let kind = match token {
                    Token::Data(text) => StatementKind::Text((*text).to_owned()),
                    Token::Begin(Tag::Print) => {
                        let value = parser.tuple()?;
                        parser.expect_end(Tag::Print)?;
                        StatementKind::Print(value)
                    }
                    _ => match parser.peek() {
                        Some(Token::Name(name)) if ends.contains(name) => return Ok(body),
                        _ => parser.statement()?,
                    },
                };
                body.push(Statement { line: *line, kind });
            }
            match ends.last() {
                None => Ok(body),
                Some(end) => Err(parser.unexpected(&format!("`{end}`"))),
            }
        })
    }

    /// A body up to the tag of this word, and that tag.
    fn body_to(&mut self, end: &str) -> Result<Vec<Statement>> {
        let body = self.body(&[end])?;
        self.expect_word(end)?;
        self.expect_end(Tag::Block)?;
        Ok(body)
    }

    /// The statement of a block tag whose word is next.
    fn statement(&mut self) -> Result<StatementKind> {
        let name = self.expect_name("a statement")?;
        Ok(match name {
            "if" => self.conditional()?,
            "for" => self.repetition()?,
            "set" => self.assignment()?,
            "macro" => {
                let name = self.expect_name("a macro's name")?;
                let index = self.macro_of(name, "endmacro")?;
                StatementKind::Macro(index)
            }
            "call" => self.call_block()?,
            "filter" => {
                let filters = self.filters()?;
                self.expect_end(Tag::Block)?;
                StatementKind::Filter(filters, self.body_to("endfilter")?)
            }
            "with" => self.with()?,
            "block" => self.block()?,
            "autoescape" => {
                // Prompts are not HTML.
                self.expect_word("false")?;
                self.expect_end(Tag::Block)?;
                StatementKind::Scope(self.body_to("endautoescape")?)
            }
            // By this, trainers mark the model's part of a conversation.
            "generation" => {
                self.expect_end(Tag::Block)?;
                StatementKind::Scope(self.body_outside_loops("endgeneration")?)
            }
            "do" | "print" => {
                let value = self.tuple()?;
                self.expect_end(Tag::Block)?;
                if name == "do" { StatementKind::Do(value) } else { StatementKind::Print(value) }
            }
            "break" | "continue" => {
                if !self.is_in_loop {
                    return Err(TemplateError::new(format!(
                        "unexpected `{name}` outside of a loop"
                    )));
                }
                self.expect_end(Tag::Block)?;
                if name == "break" { StatementKind::Break } else { StatementKind::Continue }
            }
            "include" | "import" | "from" | "extends" => {
                return Err(TemplateError::new(format!(
                    "unexpected `{name}`: there are no other templates"
                )));
            }
            _ => {
                return Err(TemplateError::new(format!(
                    "unexpected statement `{}`",
                    shortened(name)
                )));
            }
        })
    }

    fn conditional(&mut self) -> Result<StatementKind> {
        let mut branches = Vec::new();
        loop {
            let condition = self.tuple()?;
            self.expect_end(Tag::Block)?;
            branches.push((condition, self.body(&["elif", "else", "endif"])?));
            if branches.len() > OPERATORS {
                return Err(TemplateError::new(format!(
                    "an `if` has more than {OPERATORS} branches"
                )));
            }
            if self.skip_word("elif") {
                continue;
            }
            let mut otherwise = Vec::new();
            if self.skip_word("else") {
                self.expect_end(Tag::Block)?;
                otherwise = self.body(&["endif"])?;
            }
            self.expect_word("endif")?;
            self.expect_end(Tag::Block)?;
            return Ok(StatementKind::If(branches, otherwise));
        }
    }

    fn repetition(&mut self) -> Result<StatementKind> {
        let target = self.target(false)?;
        self.expect_word("in")?;
        let items = self.tuple_without_if()?;
        let condition = if self.skip_word("if") { Some(self.expression()?) } else { None };
        let is_recursive = self.skip_word("recursive");
        self.expect_end(Tag::Block)?;
        let outside = (self.is_in_loop, self.uses_loop);
        (self.is_in_loop, self.uses_loop) = (true, false);
        let body = self.body(&["else", "endfor"])?;
        let uses_loop = self.uses_loop;
        (self.is_in_loop, self.uses_loop) = (outside.0, outside.1 || uses_loop);
        let mut otherwise = Vec::new();
        if self.skip_word("else") {
            self.expect_end(Tag::Block)?;
            otherwise = self.body(&["endfor"])?;
        }
        self.expect_word("endfor")?;
        self.expect_end(Tag::Block)?;
        let found = Loop { target, items, condition, body, otherwise, is_recursive, uses_loop };
        self.program.loops.push(found);
        Ok(StatementKind::For(self.program.loops.len() - 1))
    }

    fn assignment(&mut self) -> Result<StatementKind> {
        let target = self.target(true)?;
        if self.skip_op("=") {
            let value = self.tuple()?;
            self.expect_end(Tag::Block)?;
            return Ok(StatementKind::Set(target, value));
        }
        let filters = if self.skip_op("|") { self.filters()? } else { Vec::new() };
        self.expect_end(Tag::Block)?;
        Ok(StatementKind::Capture(target, filters, self.body_to("endset")?))
    }

    /// Filters after the first `|`, or after `filter`.
    fn filters(&mut self) -> Result<Vec<Call>> {
        let mut filters = vec![self.filter()?];
        while self.skip_op("|") {
            filters.push(self.filter()?);
        }
        Ok(filters)
    }

    /// A macro from its parameters on, as its index.
    fn macro_of(&mut self, name: &'s str, end: &str) -> Result<usize> {
        let name = self.intern(name);
        let mut parameters: Vec<(Name, Option<Expression>)> = Vec::new();
        let mut known = HashSet::new();
        if self.skip_op("(") {
            while !self.skip_op(")") {
                let parameter = self.expect_name("a parameter's name")?;
                let parameter = self.intern(parameter);
                let default = if self.skip_op("=") { Some(self.expression()?) } else { None };
                let is_behind = parameters.last().is_some_and(|(_, default)| default.is_some());
                if is_behind && default.is_none() {
                    return Err(self.unexpected("a default value, as before"));
                }
                if !known.insert(parameter) {
                    return Err(TemplateError::new("a macro has two parameters of one name"));
                }
                parameters.push((parameter, default));
                if !self.is_op(")") {
                    self.expect_op(",")?;
                }
            }
        }
        if end == "endmacro" {
            self.expect_end(Tag::Block)?;
        }
        let index = self.program.macros.len();
        self.program.macros.push(Macro { name, parameters, body: Vec::new() });
        if end == "endmacro" {
            self.program.macros[index].body = self.body_outside_loops(end)?;
        }
        Ok(index)
    }

    /// A body that is not part of the loop around it.
    fn body_outside_loops(&mut self, end: &str) -> Result<Vec<Statement>> {
        let is_in_loop = std::mem::take(&mut self.is_in_loop);
        let body = self.body_to(end)?;
        self.is_in_loop = is_in_loop;
        Ok(body)
    }

    /// `{% call(parameters) name(arguments) %}body{% endcall %}` prints a call that is given the body.
    fn call_block(&mut self) -> Result<StatementKind> {
        let caller = self.macro_of("caller", "endcall")?;
        let mut call = self.expression()?;
        match call.last_call() {
            Some(arguments) => arguments.caller = Some(caller),
            None => return Err(self.unexpected("a call")),
        }
        self.expect_end(Tag::Block)?;
        self.program.macros[caller].body = self.body_outside_loops("endcall")?;
        Ok(StatementKind::Print(call))
    }

    fn with(&mut self) -> Result<StatementKind> {
        let mut values: Vec<(Target, Expression)> = Vec::new();
        while self.peek() != Some(&Token::End(Tag::Block)) {
            if !values.is_empty() {
                self.expect_op(",")?;
            }
            let target = self.target_name()?;
            self.expect_op("=")?;
            values.push((target, self.expression()?));
        }
        self.expect_end(Tag::Block)?;
        Ok(StatementKind::With(values, self.body_to("endwith")?))
    }

    fn block(&mut self) -> Result<StatementKind> {
        let name = self.expect_name("a block's name")?;
        let interned = self.intern(name);
        while self.skip_word("scoped") || self.skip_word("required") {}
        self.expect_end(Tag::Block)?;
        if !self.blocks.insert(interned) {
            return Err(TemplateError::new(format!(
                "unexpected second block `{}`",
                shortened(name)
            )));
        }
        let index = self.program.blocks.len();
        self.program.blocks.push((interned, Vec::new()));
        let is_in_loop = std::mem::take(&mut self.is_in_loop);
        let body = self.body(&["endblock"])?;
        self.is_in_loop = is_in_loop;
        self.expect_word("endblock")?;
        self.skip_word(name);
        self.expect_end(Tag::Block)?;
        self.program.blocks[index].1 = body;
        Ok(StatementKind::Block(index))
    }
}

/// A name from the source, short enough for a message.
fn shortened(name: &str) -> String {
    name.chars().take(40).collect()
}
