//! A parsed template.
//!
//! Chains (`a + b + c`, `x.y.z`, `not not x`, `a if b else c if d else e`) are flat lists. So only brackets and blocks
//! nest, which the parser counts.

/// A name as its index in [`Program::names`].
pub type Name = u32;

/// Names of variables that loops and macros set.
pub const IMPLICIT_NAMES: [&str; 4] = ["loop", "caller", "varargs", "kwargs"];

/// A whole template.
#[derive(Debug, Default)]
pub struct Program {
    /// Its statements.
    pub body: Vec<Statement>,
    /// Names of variables, attributes, filters, tests and arguments.
    pub names: Vec<String>,
    /// The names of [`IMPLICIT_NAMES`] that it uses.
    pub known: [Option<Name>; IMPLICIT_NAMES.len()],
    /// Macros, and the bodies of `call` blocks.
    pub macros: Vec<Macro>,
    /// Loops.
    pub loops: Vec<Loop>,
    /// Blocks: their names and statements.
    pub blocks: Vec<(Name, Vec<Statement>)>,
}

/// A statement and its line.
#[derive(Debug)]
pub struct Statement {
    /// The line, from 1.
    pub line: u32,
    /// The statement.
    pub kind: StatementKind,
}

/// The kinds of statements.
#[derive(Debug)]
pub enum StatementKind {
    /// Writes text as it is.
    Text(String),
    /// `{{ value }}`.
    Print(Expression),
    /// `{% do value %}`.
    Do(Expression),
    /// `{% if %}…{% elif %}…{% else %}…`: the first branch whose condition holds.
    If(Vec<(Expression, Vec<Statement>)>, Vec<Statement>),
    /// `{% for %}`: the index in [`Program::loops`].
    For(usize),
    /// `{% break %}`.
    Break,
    /// `{% continue %}`.
    Continue,
    /// `{% set target = value %}`.
    Set(Target, Expression),
    /// `{% set target | filters %}…`: what the body writes becomes the value.
    Capture(Target, Vec<Call>, Vec<Statement>),
    /// `{% filter filters %}…`.
    Filter(Vec<Call>, Vec<Statement>),
    /// `{% with target = value, … %}…`.
    With(Vec<(Target, Expression)>, Vec<Statement>),
    /// `{% macro %}`: the index in [`Program::macros`].
    Macro(usize),
    /// `{% block %}`: the index in [`Program::blocks`].
    Block(usize),
    /// A body with a scope of its own: `{% generation %}…`.
    Scope(Vec<Statement>),
}

/// `{% for target in items if condition recursive %}…{% else %}…`.
#[derive(Debug)]
pub struct Loop {
    /// The target that an item is bound to.
    pub target: Target,
    /// The items.
    pub items: Expression,
    /// The condition that selects items.
    pub condition: Option<Expression>,
    /// The statements for each item.
    pub body: Vec<Statement>,
    /// The statements if there is no item.
    pub otherwise: Vec<Statement>,
    /// Whether `loop(items)` may run it again.
    pub is_recursive: bool,
    /// Whether `loop` is used inside.
    pub uses_loop: bool,
}

/// `{% macro name(parameters) %}…`.
#[derive(Debug)]
pub struct Macro {
    /// Its name; `caller` for the body of a `call` block.
    pub name: Name,
    /// Names and default values.
    pub parameters: Vec<(Name, Option<Expression>)>,
    /// Its statements.
    pub body: Vec<Statement>,
}

/// The target of an assignment.
#[derive(Debug)]
pub enum Target {
    /// A variable.
    Name(Name),
    /// An attribute of a namespace.
    Attribute(Name, Name),
    /// The items of a value, one each.
    Items(Vec<Target>),
}

/// An expression.
#[derive(Debug)]
pub enum Expression {
    /// A value written in the source.
    Constant(Constant),
    /// A variable.
    Variable(Name),
    /// `[a, b]`.
    List(Vec<Expression>),
    /// `(a, b)`.
    Tuple(Vec<Expression>),
    /// `{a: b}`.
    Map(Vec<(Expression, Expression)>),
    /// `a and b and …`: the first that is false, or the last.
    And(Vec<Expression>),
    /// `a or b or …`: the first that is true, or the last.
    Or(Vec<Expression>),
    /// `a < b <= …`: whether each pair compares so.
    Compare(Box<Expression>, Vec<(Comparison, Expression)>),
    /// `a + b - …`: from left to right.
    Binary(Box<Expression>, Vec<(Binary, Expression)>),
    /// Prefix operators, the innermost last.
    Unary(Vec<Unary>, Box<Expression>),
    /// `a if b else c if d else e`: pairs of value and condition, then the value otherwise.
    If(Vec<(Expression, Expression)>, Option<Box<Expression>>),
    /// Postfix operations on a value, from left to right.
    Postfix(Box<Expression>, Vec<Postfix>),
}

/// A value written in the source.
#[derive(Debug)]
pub enum Constant {
    /// `none`.
    None,
    /// `true` and `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Another number.
    Float(f64),
    /// A string.
    Text(String),
}

/// Operators between two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `//`
    FloorDivide,
    /// `%`
    Remainder,
    /// `**`
    Power,
    /// `~`
    Concatenate,
}

/// Comparisons of two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `in`
    In,
    /// `not in`
    NotIn,
}

/// Prefix operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unary {
    /// `not`
    Not,
    /// `-`
    Negative,
    /// `+`
    Positive,
}

/// Postfix operations.
#[derive(Debug)]
pub enum Postfix {
    /// `.name`
    Attribute(Name),
    /// `[key]`
    Item(Expression),
    /// `[start:stop:step]`
    Slice(Box<[Option<Expression>; 3]>),
    /// `(arguments)`
    Call(ArgumentList),
    /// `.name(arguments)`
    Method(Call),
    /// `| name(arguments)`
    Filter(Call),
    /// `is name(arguments)`, or `is not` if true.
    Test(Call, bool),
}

/// A name that is called.
#[derive(Debug)]
pub struct Call {
    /// The line, from 1.
    pub line: u32,
    /// The name.
    pub name: Name,
    /// Its arguments.
    pub arguments: ArgumentList,
}

/// The arguments of a call.
#[derive(Debug, Default)]
pub struct ArgumentList {
    /// By position.
    pub list: Vec<Argument>,
    /// The body of a `call` block as its index in [`Program::macros`].
    pub caller: Option<usize>,
}

/// One argument.
#[derive(Debug)]
pub enum Argument {
    /// `value`
    Positional(Expression),
    /// `name=value`
    Named(Name, Expression),
    /// `*values`
    UnpackedList(Expression),
    /// `**values`
    UnpackedMap(Expression),
}
