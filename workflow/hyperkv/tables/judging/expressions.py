"""The grammar of claims: expressions over the columns of result tables, and the condition that a value is held against.

An expression is read with `ast` and never run. It is made of numbers, + - * / and brackets, and of

    median(table.column, column=value, ...)        the column's median over repeats, of the rows that have these values
    equal_speed(cells(column=value, ...), cells(...))  RPS/GPU of the one over the other at equal TPS/user
    largest(a, b, ...), smallest(a, b, ...)

A value is a number, a text in quotes, True or False; `highest` or `lowest`, of those in the rows that the other values
leave; `compared`, the configuration's figures.chunk_tokens; or a list in order of preference, of which the first that was
measured is taken. A column that is a word of Python's is written with `_` behind it (pass_). Tables and columns are those
of workflow/schemas/columns.yaml.
"""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...base.errors import UserError

LONGEST = 1000
DEEPEST = 50
EXTREMES = ("highest", "lowest")
COMPARED = "compared"
OPERATORS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
CHOICES = ("largest", "smallest")
FUNCTIONS = ("median", "equal_speed", *CHOICES)
CURVES = ("cells",)
_WORDS = ("name", "word", "text", "digest", "column", "UTC time")
Dictionary = Mapping[str, Mapping[str, Mapping[str, str]]]


@dataclass(frozen=True)
class Named:
    """A value that the data or the configuration gives: highest, lowest or compared."""

    name: str


Choice = float | str | bool | Named


@dataclass(frozen=True)
class Selection:
    """Rows of a table: for every column the values in order of preference."""

    table: str
    where: tuple[tuple[str, tuple[Choice, ...]], ...]


@dataclass(frozen=True)
class Number:
    """A number as it is written."""

    value: float


@dataclass(frozen=True)
class Median:
    """The median of a column over the repeats of the selected rows."""

    column: str
    selection: Selection


@dataclass(frozen=True)
class EqualSpeed:
    """RPS/GPU of one curve over that of the other at equal TPS/user, repeat by repeat."""

    one: Selection
    other: Selection


@dataclass(frozen=True)
class Operation:
    """+, -, *, / of two parts, largest or smallest of several, or - of one."""

    symbol: str
    parts: tuple[Expression, ...]


Expression = Number | Median | EqualSpeed | Operation


@dataclass(frozen=True)
class Condition:
    """The values that confirm a claim: those between low and high; `open` ends are not among them."""

    low: float
    low_open: bool
    high: float
    high_open: bool

    def above_low(self, value: float) -> bool:
        """Whether a value is not below the lower end."""
        return value > self.low or (value == self.low and not self.low_open)

    def below_high(self, value: float) -> bool:
        """Whether a value is not above the upper end."""
        return value < self.high or (value == self.high and not self.high_open)


def parse_expression(text: str, dictionary: Dictionary) -> Expression:
    """Read an expression. dictionary: columns by table (columns.yaml).

    Raises UserError: one line that names what is wrong and what is allowed.
    """
    return _Reader(dictionary).expression(_parsed(text))


def parse_condition(text: str) -> Condition:
    """Read `value >= 2`, `2 <= value < 3` or several of them joined by `and`. Raises UserError."""
    low, high = (-math.inf, True), (math.inf, True)
    for one, symbol, other in _comparisons(_parsed(text), text):
        if symbol in (">", ">="):
            one, other, symbol = other, one, symbol.replace(">", "<")
        is_open = symbol == "<"
        if one is None and other is not None:
            high = min(high, (other, is_open), key=lambda end: (end[0], not end[1]))
        elif other is None and one is not None:
            low = max(low, (one, is_open), key=lambda end: (end[0], end[1]))
        else:
            raise UserError(f"{text!r} is wrong; compare `value` with a number, such as value >= 1.5")
    if low[0] > high[0] or (low[0] == high[0] and (low[1] or high[1])):
        raise UserError(f"{text!r}: no value can be so")
    return Condition(*low, *high)


def parts_of(expression: Expression) -> Iterator[Expression]:
    """An expression and all that it is made of."""
    yield expression
    for part in expression.parts if isinstance(expression, Operation) else ():
        yield from parts_of(part)


def tables_of(expression: Expression) -> set[str]:
    """Names of the tables that an expression reads."""
    found = set()
    for part in parts_of(expression):
        if isinstance(part, Median):
            found.add(part.selection.table)
        if isinstance(part, EqualSpeed):
            found |= {part.one.table, part.other.table}
    return found


def kind_of(unit: str) -> str:
    """Whether a column with that unit holds numbers, text or booleans."""
    return "boolean" if unit == "boolean" else "text" if unit in _WORDS else "number"


def _parsed(text: Any) -> ast.expr:
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{text!r} is wrong; it must be text")
    if len(text) > LONGEST:
        raise UserError(f"{len(text)} characters are too many; at most {LONGEST}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # such as "1and 2", which is said in our own words
            node = ast.parse(" ".join(text.split()), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"{_short(text)} cannot be read ({getattr(error, 'msg', error)})") from None
    if _levels(node) > DEEPEST:
        raise UserError(f"{_short(text)} has more than {DEEPEST} levels; write fewer signs and brackets")
    return node


def _levels(node: ast.AST) -> int:
    """How deep a syntax tree is, without recursion."""
    count, level = 0, [node]
    while level:
        count, level = count + 1, [child for parent in level for child in ast.iter_child_nodes(parent)]
    return count


def _comparisons(node: ast.expr, text: str) -> Iterator[tuple[float | None, str, float | None]]:
    """The pairs of a condition: numbers, None for `value`, and the sign between them."""
    signs = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
        for part in node.values:
            yield from _comparisons(part, text)
        return
    if not isinstance(node, ast.Compare) or any(type(operator) not in signs for operator in node.ops):
        raise UserError(f"{text!r} is wrong; allowed are <, <=, >, >= and `and`, such as 2 <= value <= 3")
    ends = [_end(part, text) for part in (node.left, *node.comparators)]
    for index, operator in enumerate(node.ops):
        yield ends[index], signs[type(operator)], ends[index + 1]


def _end(node: ast.expr, text: str) -> float | None:
    if isinstance(node, ast.Name) and node.id == "value":
        return None
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
        number = _number(node)
        if number is not None:
            return -number
    elif (number := _number(node)) is not None:
        return number
    raise UserError(f"{text!r}: {_short(ast.unparse(node))} is wrong; allowed are `value` and numbers")


def _number(node: ast.expr) -> float | None:
    """The finite number that a node is; None for anything else."""
    if not isinstance(node, ast.Constant) or type(node.value) not in (int, float):
        return None
    try:
        number = float(node.value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


class _Reader:
    """From Python's syntax tree to an expression, held against the dictionary on the way."""

    def __init__(self, dictionary: Dictionary):
        self._tables = dictionary

    def expression(self, node: ast.expr) -> Expression:
        if (number := _number(node)) is not None:
            return Number(number)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return Operation("negative", (self.expression(node.operand),))
        if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            parts = (self.expression(node.left), self.expression(node.right))
            if isinstance(node.op, ast.Div) and parts[1] == Number(0.0):
                raise UserError(f"{_short(ast.unparse(node))} divides by 0")
            return Operation(OPERATORS[type(node.op)], parts)
        if isinstance(node, ast.Call):
            return self._call(node)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            raise UserError(f"{_short(node.value)} is text where a number is wanted")
        if isinstance(node, ast.Attribute):
            raise UserError(
                f"{_short(ast.unparse(node))} stands alone; write median({_short(ast.unparse(node))}, ...)"
            )
        raise UserError(
            f"{_short(ast.unparse(node))} is not allowed; write numbers, + - * / and {', '.join(FUNCTIONS)}"
        )

    def _call(self, node: ast.Call) -> Expression:
        name = node.func.id if isinstance(node.func, ast.Name) else None
        if name not in FUNCTIONS:
            raise UserError(
                f"{_short(ast.unparse(node.func))} is not a function; allowed are {', '.join(FUNCTIONS)}"
            )
        if name == "median":
            return self._median(node)
        if node.keywords:
            raise UserError(f"{name} takes no {node.keywords[0].arg}=; put it into its parts")
        if name == "equal_speed":
            if len(node.args) != 2:
                raise UserError(
                    f"equal_speed compares two curves, such as equal_speed({CURVES[0]}(...), {CURVES[0]}(...))"
                )
            return EqualSpeed(*(self._curve(part) for part in node.args))
        if len(node.args) < 2:
            raise UserError(f"{name} needs at least two parts")
        return Operation(name, tuple(self.expression(part) for part in node.args))

    def _median(self, node: ast.Call) -> Median:
        first = node.args[0] if len(node.args) == 1 else None
        if not isinstance(first, ast.Attribute) or not isinstance(first.value, ast.Name):
            raise UserError(
                f"{_short(ast.unparse(node))}: median takes one table.column, then column=value, such as "
                f"median(cells.rps_per_gpu, store='dram')"
            )
        table = self._table(first.value.id)
        column = self._column(table, first.attr)
        if self._kind(table, column) != "number":
            raise UserError(
                f"{table}.{column} is {self._kind(table, column)}, not a number, and has no median"
            )
        return Median(column, self._selection(table, node.keywords))

    def _curve(self, node: ast.expr) -> Selection:
        there = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CURVES
        if not there or node.args:
            raise UserError(
                f"{_short(ast.unparse(node))} is not a curve; write {CURVES[0]}(column=value, ...)"
            )
        return self._selection(node.func.id, node.keywords)

    def _selection(self, table: str, keywords: list[ast.keyword]) -> Selection:
        where = []
        for keyword in keywords:
            if keyword.arg is None:
                raise UserError("** is not allowed; write column=value")
            column = self._column(table, keyword.arg)
            nodes = keyword.value.elts if isinstance(keyword.value, ast.List) else [keyword.value]
            if not nodes:
                raise UserError(f"{table}.{column}: the list is empty")
            where.append((column, tuple(self._choice(table, column, value) for value in nodes)))
        return Selection(table, tuple(where))

    def _choice(self, table: str, column: str, node: ast.expr) -> Choice:
        kind, written = self._kind(table, column), _short(ast.unparse(node))
        if isinstance(node, ast.Name):
            allowed = (*EXTREMES, COMPARED) if kind == "number" else ()
            if node.id not in allowed:
                hint = f"a number, {', '.join(allowed)}" if allowed else f"{kind} (text in quotes)"
                raise UserError(f"{table}.{column}={written} is wrong; it must be {hint}")
            return Named(node.id)
        value = node.value if isinstance(node, ast.Constant) else None
        if kind == "boolean" and isinstance(value, bool):
            return value
        if kind == "text" and isinstance(value, str):
            return value
        if kind == "number" and (number := _number(node)) is not None:
            return number
        raise UserError(f"{table}.{column}={written} is wrong; it must be {kind}")

    def _table(self, name: str) -> str:
        if name not in self._tables:
            raise UserError(f"there is no table {_short(name)}; allowed are {', '.join(self._tables)}")
        return name

    def _column(self, table: str, name: str) -> str:
        name = name if name in self._tables[table] else name.removesuffix("_")
        if name not in self._tables[table]:
            raise UserError(
                f"table {table} has no column {_short(name)}; it has {', '.join(self._tables[table])}"
            )
        return name

    def _kind(self, table: str, column: str) -> str:
        return kind_of(self._tables[table][column]["unit"])


def _short(text: str) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= 60 else f"{line[:57]}..."
