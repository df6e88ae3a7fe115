//! From CEL's syntax to the terms that we evaluate; what is not allowed is refused here.

use cel::common::ast::operators as cel_operators;
use cel::common::ast::{CallExpr, Expr, LiteralValue};
use cel::{IdedExpr, Program};
use serde_json::{Number, Value};

use super::Complaint;
use super::operands::Operands;
use crate::limits::{CONDITION_DEPTH_MAX, CONDITION_MACRO_DEPTH_MAX};
use crate::suggestion::closest;

/// A part of a condition.
#[derive(Debug, Clone)]
pub(super) struct Term {
    /// Where it stands, counted in characters from 1.
    pub(super) column: u32,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    Constant(Value),
    /// Index of a path.
    Path(usize),
    /// How many macros around it bind a name before the one that binds this one.
    Variable(usize),
    Member {
        of: Box<Term>,
        name: String,
    },
    Index {
        of: Box<Term>,
        index: Box<Term>,
    },
    Has(Box<Term>),
    Not(Box<Term>),
    Negate(Box<Term>),
    And(Box<[Term; 2]>),
    Or(Box<[Term; 2]>),
    Choice(Box<[Term; 3]>),
    Equal {
        sides: Box<[Term; 2]>,
        negated: bool,
    },
    Order {
        order: Order,
        sides: Box<[Term; 2]>,
    },
    In(Box<[Term; 2]>),
    Arithmetic {
        operation: Operation,
        sides: Box<[Term; 2]>,
    },
    List(Vec<Term>),
    Call {
        function: Function,
        arguments: Vec<Term>,
    },
    Loop {
        kind: Loop,
        list: Box<Term>,
        predicate: Option<Box<Term>>,
        result: Option<Box<Term>>,
    },
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum $name { $($variant),+ }

        impl $name {
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            pub(super) const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            fn named(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.as_str() == word)
            }
        }
    };
}

words!(
    /// Comparisons that need an order.
    Order { Less = "<", LessOrEqual = "<=", Greater = ">", GreaterOrEqual = ">=" }
);
words!(Operation { Add = "+", Subtract = "-", Multiply = "*", Divide = "/", Remainder = "%" });
words!(Function {
    Size = "size",
    StartsWith = "startsWith",
    EndsWith = "endsWith",
    Contains = "contains",
    Int = "int",
    Double = "double",
    String = "string",
    Bool = "bool",
});
words!(
    /// List macros.
    Loop { All = "all", Exists = "exists", ExistsOne = "exists_one", Map = "map", Filter = "filter" }
);

pub(super) fn compile(program: &Program, operands: &Operands) -> Result<Term, Complaint> {
    Compiler { program, operands, variables: Vec::new(), depth: 0 }.term(program.expression())
}

struct Compiler<'a> {
    program: &'a Program,
    operands: &'a Operands,
    /// Names that macros bind, the outermost first.
    variables: Vec<String>,
    depth: usize,
}

impl Compiler<'_> {
    fn term(&mut self, expression: &IdedExpr) -> Result<Term, Complaint> {
        let column = self.column(expression);
        self.depth += 1;
        if self.depth > CONDITION_DEPTH_MAX {
            return Err((column, format!("the condition is nested more than {CONDITION_DEPTH_MAX} deep")));
        }
        let kind = match &expression.expr {
            Expr::Literal(literal) => Kind::Constant(constant(literal).map_err(|message| (column, message))?),
            Expr::Ident(name) => self.name(name).map_err(|message| (column, message))?,
            Expr::Select(select) => {
                Kind::Member { of: Box::new(self.term(&select.operand)?), name: select.field.clone() }
            }
            Expr::List(list) => Kind::List(self.terms(&list.elements)?),
            Expr::Call(call) => self.call(call, column)?,
            Expr::Map(_) | Expr::Struct(_) => return Err((column, "a condition cannot make objects".to_owned())),
            Expr::Comprehension(_) | Expr::Unspecified => return Err((column, "this is not a condition".to_owned())),
        };
        self.depth -= 1;
        Ok(Term { column, kind })
    }

    fn terms(&mut self, expressions: &[IdedExpr]) -> Result<Vec<Term>, Complaint> {
        expressions.iter().map(|expression| self.term(expression)).collect()
    }

    fn column(&self, expression: &IdedExpr) -> u32 {
        self.program.source_info().offset_for(expression.id).map_or(1, |(start, _)| start + 1)
    }

    fn name(&self, name: &str) -> Result<Kind, String> {
        if let Some(depth) = self.variables.iter().rposition(|known| known == name) {
            return Ok(Kind::Variable(depth));
        }
        match self.operands.names.get(name) {
            Some(index) => Ok(Kind::Path(*index)),
            None => {
                let name = self.operands.restore(name);
                let known = ["input", "context", "item", "index", "steps"];
                Err(match closest(&name, known) {
                    Some(root) => format!("there is no `{name}`; paths start with `$`, as in $.{root}"),
                    None => {
                        format!("there is no `{name}`; values are paths, as in $.input.{name}, and text has quotes")
                    }
                })
            }
        }
    }

    fn call(&mut self, call: &CallExpr, column: u32) -> Result<Kind, Complaint> {
        if let Some(kind) = self.operator(call)? {
            return Ok(kind);
        }
        if let (Some(target), Some(kind)) = (&call.target, Loop::named(&call.func_name)) {
            return self.list_macro(kind, target, &call.args, column);
        }
        if call.func_name == cel_operators::HAS && call.target.is_none() && call.args.len() == 1 {
            return Ok(Kind::Has(Box::new(self.term(&call.args[0])?)));
        }
        let Some(function) = Function::named(&call.func_name) else {
            return Err((column, no_such_function(&call.func_name)));
        };
        let is_method = call.target.is_some();
        let (methods_only, both) = match function {
            Function::Size => (false, true),
            Function::StartsWith | Function::EndsWith | Function::Contains => (true, false),
            Function::Int | Function::Double | Function::String | Function::Bool => (false, false),
        };
        let expected = usize::from(methods_only) + 1;
        let given = call.args.len() + usize::from(is_method);
        if given != expected || (is_method != methods_only && !both) {
            let name = function.as_str();
            let usage = if methods_only { format!("text.{name}(\"…\")") } else { format!("{name}(…)") };
            return Err((column, format!("`{name}` is used as {usage}")));
        }
        let mut arguments = Vec::with_capacity(expected);
        for argument in call.target.as_deref().into_iter().chain(&call.args) {
            arguments.push(self.term(argument)?);
        }
        Ok(Kind::Call { function, arguments })
    }

    fn operator(&mut self, call: &CallExpr) -> Result<Option<Kind>, Complaint> {
        if call.target.is_some() {
            return Ok(None);
        }
        let sign = call.func_name.trim_matches('_');
        Ok(Some(match (call.func_name.as_str(), call.args.as_slice()) {
            (cel_operators::LOGICAL_NOT, [of]) => Kind::Not(Box::new(self.term(of)?)),
            (cel_operators::NEGATE, [of]) => Kind::Negate(Box::new(self.term(of)?)),
            (cel_operators::LOGICAL_AND, sides) => Kind::And(self.sides(sides)?),
            (cel_operators::LOGICAL_OR, sides) => Kind::Or(self.sides(sides)?),
            (cel_operators::EQUALS, sides) => Kind::Equal { sides: self.sides(sides)?, negated: false },
            (cel_operators::NOT_EQUALS, sides) => Kind::Equal { sides: self.sides(sides)?, negated: true },
            (cel_operators::IN, sides) => Kind::In(self.sides(sides)?),
            (cel_operators::CONDITIONAL, [condition, yes, no]) => {
                Kind::Choice(Box::new([self.term(condition)?, self.term(yes)?, self.term(no)?]))
            }
            (cel_operators::INDEX, [of, index]) => {
                Kind::Index { of: Box::new(self.term(of)?), index: Box::new(self.term(index)?) }
            }
            (_, sides) => match (Order::named(sign), Operation::named(sign)) {
                (Some(order), _) => Kind::Order { order, sides: self.sides(sides)? },
                (None, Some(operation)) => Kind::Arithmetic { operation, sides: self.sides(sides)? },
                (None, None) => return Ok(None),
            },
        }))
    }

    fn sides(&mut self, sides: &[IdedExpr]) -> Result<Box<[Term; 2]>, Complaint> {
        let [left, right] = sides else { return Err((1, "an operator lacks a side".to_owned())) };
        Ok(Box::new([self.term(left)?, self.term(right)?]))
    }

    fn list_macro(
        &mut self,
        kind: Loop,
        list: &IdedExpr,
        arguments: &[IdedExpr],
        column: u32,
    ) -> Result<Kind, Complaint> {
        let list = Box::new(self.term(list)?);
        let usage = || (column, format!("`{0}` is used as list.{0}(x, …)", kind.as_str()));
        let (variable, bodies) = match arguments {
            [IdedExpr { expr: Expr::Ident(name), .. }, bodies @ ..] if !self.operands.names.contains_key(name) => {
                (name.clone(), bodies)
            }
            _ => return Err(usage()),
        };
        if self.variables.len() == CONDITION_MACRO_DEPTH_MAX {
            let message = format!("list macros are nested at most {CONDITION_MACRO_DEPTH_MAX} deep");
            return Err((column, message));
        }
        self.variables.push(variable);
        let mut bodies = bodies.iter().map(|body| self.term(body).map(Box::new)).collect::<Result<Vec<_>, _>>()?;
        self.variables.pop();
        let (predicate, result) = match (kind, bodies.len()) {
            (Loop::Map, 1) => (None, bodies.pop()),
            (Loop::Map, 2) => {
                let result = bodies.pop();
                (bodies.pop(), result)
            }
            (Loop::All | Loop::Exists | Loop::ExistsOne | Loop::Filter, 1) => (bodies.pop(), None),
            _ => return Err(usage()),
        };
        Ok(Kind::Loop { kind, list, predicate, result })
    }
}

fn constant(literal: &LiteralValue) -> Result<Value, String> {
    Ok(match literal {
        LiteralValue::Null => Value::Null,
        LiteralValue::Boolean(value) => Value::Bool(*value.inner()),
        LiteralValue::Int(value) => Value::from(*value.inner()),
        LiteralValue::UInt(value) => i64::try_from(*value.inner())
            .map(Value::from)
            .map_err(|_| format!("{} is too large for an integer", value.inner()))?,
        LiteralValue::Double(value) => {
            Number::from_f64(*value.inner()).map(Value::Number).ok_or_else(|| "the number is too large".to_owned())?
        }
        LiteralValue::String(value) => Value::String(value.inner().to_owned()),
        LiteralValue::Bytes(_) => return Err("there are no bytes in conditions; text has no `b` before it".to_owned()),
    })
}

fn no_such_function(name: &str) -> String {
    let known = Function::ALL.iter().map(|function| function.as_str());
    let macros = Loop::ALL.iter().map(|kind| kind.as_str());
    match name {
        "timestamp" | "duration" | "now" => format!("`{name}`: conditions have no clock"),
        "matches" => "`matches`: conditions have no regular expressions; there are startsWith, endsWith and contains, \
                      and match() in the filter of a path"
            .to_owned(),
        _ => match closest(name, known.clone().chain(macros.clone()).chain(["has"])) {
            Some(meant) => format!("there is no function `{name}`; did you mean `{meant}`?"),
            None => {
                let names: Vec<&str> = known.chain(macros).chain(["has"]).collect();
                format!("there is no function `{name}`; there are {}", names.join(", "))
            }
        },
    }
}
