"""R's expression language as far as formulas use it: text to tree, tree to text.

A formula is read with R's own precedence and printed as R's `deparse` prints it, because the names of coefficients
(`I(week^2)`, `poly(x, 2)1`, `log(dim)`) are deparsed R. Precedence, low to high (R's `?Syntax`):

    ~   | ||   & &&   !   == != < > <= >=   + -   * /   %any%   :   unary + -   ^ **

Nothing is evaluated here.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from vcbench.errors import FormulaError


@dataclass(frozen=True, slots=True)
class Num:
    """A number; `integer` marks R's suffix L."""

    value: float
    integer: bool = False


@dataclass(frozen=True, slots=True)
class Str:
    """A quoted text."""

    value: str


@dataclass(frozen=True, slots=True)
class Name:
    """A name, without backquotes."""

    id: str


@dataclass(frozen=True, slots=True)
class Call:
    """An operator or a function applied to arguments; parentheses are the function `(`, as in R.

    `names[i]` is the name given to argument i, or an empty string.
    """

    fn: str
    args: tuple["Node", ...]
    names: tuple[str, ...] = ()

    def keyword(self, i: int) -> str:
        return self.names[i] if self.names else ""


Node = Num | Str | Name | Call

_TOKEN = re.compile(
    r"""(?P<space>[\s]+|\#[^\n]*)
      | (?P<num>0[xX][0-9a-fA-F]+L?|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?L?)
      | (?P<name>(?:[^\W\d]|\.(?!\d))[\w.]*)
      | (?P<tick>`[^`]*`)
      | (?P<str>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<op>%[^%\n]*%|\*\*|\|\||&&|<=|>=|==|!=|<-|::|[-+*/^:~|&!<>=(),$@\[\]{};?])""",
    re.VERBOSE | re.DOTALL,
)
_BINARY = {"~": 10, "|": 20, "||": 20, "&": 30, "&&": 30, "==": 50, "!=": 50, "<": 50, ">": 50, "<=": 50, ">=": 50}
_BINARY |= {"+": 60, "-": 60, "*": 70, "/": 70, ":": 90, "^": 110, "**": 110}
_SPECIAL, _UNARY, _NOT = 80, 100, 40
_SPACED = {"~", "|", "||", "&", "&&", "==", "!=", "<", ">", "<=", ">=", "+", "-", "*", "%in%"}
_CONSTANTS = {"TRUE", "FALSE", "NULL", "NA", "Inf", "NaN"}
_RESERVED = {"if", "else", "repeat", "while", "function", "for", "in", "next", "break", *_CONSTANTS}
_SYNTACTIC = re.compile(r"(?:[^\W\d_]|\.(?!\d))[\w.]*\Z")


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            quoted = text[at] in "\"'`"
            what = f"the quote {text[at]} is never closed" if quoted else f"`{text[at]}` has no meaning in a formula"
            raise FormulaError(f"formula `{text}`: {what} (character {at + 1}). Remove it or close it.")
        if match.lastgroup != "space":
            yield _Token(match.lastgroup or "", match.group(), at)
        at = match.end()
    yield _Token("end", "", len(text))


class _Parser:
    """Precedence climbing over the tokens of one formula."""

    def __init__(self, text: str) -> None:
        self.text, self.tokens, self.i, self.open = text, list(_tokens(text)), 0, [0]

    @property
    def next(self) -> _Token:
        return self.tokens[self.i]

    def take(self) -> _Token:
        self.i += 1
        return self.tokens[self.i - 1]

    def refuse(self, token: _Token) -> FormulaError:
        where = f"formula `{self.text}`"
        if token.kind == "end" and len(self.open) > 1:
            at = self.open[-1]
            return FormulaError(f"{where}: the `(` at character {at + 1} is never closed. Add the missing `)`.")
        if token.kind == "end":
            return FormulaError(f"{where} ends where a variable or a number was expected. Complete or remove the end.")
        if token.text == ")" and len(self.open) == 1:
            return FormulaError(f"{where}: the `)` at character {token.at + 1} closes nothing. Remove it.")
        if token.text in {"$", "@", "[", "]", "{", "}", "::", ";", "?", "<-"}:
            remedy = "Compute the column in the data first and name it here."
            return FormulaError(f"{where}: `{token.text}` (character {token.at + 1}) is not supported. {remedy}")
        expected = "an operator such as `+` between two terms, or the end" if self.operand_done() else "a variable"
        return FormulaError(f"{where}: unexpected `{token.text}` (character {token.at + 1}); expected {expected}.")

    def operand_done(self) -> bool:
        before = self.tokens[self.i - 1] if self.i else None
        return before is not None and (before.kind in {"num", "name", "tick", "str"} or before.text == ")")

    def expression(self, floor: int) -> Node:
        left = self.prefix()
        while True:
            token = self.next
            power = _SPECIAL if token.text.startswith("%") else _BINARY.get(token.text, 0) if token.kind == "op" else 0
            if power <= floor:
                return left
            self.take()
            right = self.expression(power - 1 if power == 110 else power)  # only ^ groups from the right
            if power == 50 and self.next.kind == "op" and _BINARY.get(self.next.text) == 50:
                raise self.refuse(self.next)  # comparisons do not chain
            left = Call("^" if token.text == "**" else token.text, (left, right))

    def prefix(self) -> Node:
        token = self.next
        if token.kind == "op" and token.text in "+-!~":
            self.take()
            power = {"!": _NOT, "~": 10}.get(token.text, _UNARY)
            return Call(token.text, (self.expression(power),))
        if token.text == "(" and token.kind == "op":
            self.take()
            inner = self.enclosed(token.at)
            return Call("(", (inner,))
        if token.kind == "num":
            return self.number(self.take().text)
        if token.kind == "str":
            return Str(re.sub(r"\\(.)", r"\1", self.take().text[1:-1]))
        if token.kind in {"name", "tick"}:
            self.take()
            name = token.text.strip("`") if token.kind == "tick" else token.text
            if not name:
                raise FormulaError(f"formula `{self.text}`: an empty name `` (character {token.at + 1}).")
            if self.next.text == "(" and self.next.kind == "op":
                return self.call(name)
            return Name(name)
        raise self.refuse(token)

    @staticmethod
    def number(text: str) -> Num:
        digits = text.removesuffix("L")
        return Num(float(int(digits, 16)) if digits[:2].lower() == "0x" else float(digits), text.endswith("L"))

    def enclosed(self, at: int) -> Node:
        self.open.append(at)
        inner = self.expression(0)
        self.close()
        return inner

    def close(self) -> None:
        if self.next.text != ")" or self.next.kind != "op":
            raise self.refuse(self.next)
        self.take()
        self.open.pop()

    def call(self, name: str) -> Call:
        self.open.append(self.take().at)
        args: list[Node] = []
        names: list[str] = []
        while self.next.text != ")" or self.next.kind != "op":
            keyword = ""
            following = self.tokens[min(self.i + 1, len(self.tokens) - 1)]
            if self.next.kind in {"name", "tick", "str"} and following.kind == "op" and following.text == "=":
                keyword = self.take().text.strip("`\"'")
                self.take()
            args.append(self.expression(0))
            names.append(keyword)
            if self.next.kind == "op" and self.next.text == ",":
                self.take()
            elif self.next.text != ")":
                raise self.refuse(self.next)
        self.close()
        return Call(name, tuple(args), tuple(names) if any(names) else ())


def parse(text: str) -> Node:
    """The tree of one R expression.

    Raises FormulaError for unbalanced parentheses or quotes, a dangling operator, and R that formulas have no use for.
    """
    parser = _Parser(text)
    if parser.next.kind == "end":
        raise FormulaError("the formula is empty; expected something like `y ~ x + (1 | group)`.")
    tree = parser.expression(0)
    if parser.next.kind != "end":
        raise parser.refuse(parser.next)
    return tree


def quote_name(name: str) -> str:
    """`name`, in backquotes where R would need them."""
    return name if _SYNTACTIC.match(name) and name not in _RESERVED else f"`{name}`"


def format_number(value: float) -> str:
    """A number with up to 15 significant digits, fixed or scientific, whichever is shorter (R's rule for both `deparse`
    and `as.character` of a double): 0.1, 123456, 1e+05, 0.00012."""
    if value != value or value in (float("inf"), float("-inf")):
        return "NaN" if value != value else "Inf" if value > 0 else "-Inf"
    mantissa, _, exponent = f"{value:.14e}".partition("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    power = int(exponent)
    scientific = f"{mantissa}e{'-' if power < 0 else '+'}{abs(power):02d}"
    digits = len(mantissa.lstrip("-").replace(".", ""))
    fixed = f"{value:.{max(0, digits - 1 - power)}f}"
    return fixed if len(fixed) <= len(scientific) else scientific


def deparse(node: Node) -> str:
    """The expression as R prints it: spaces around `+ - *` and comparisons, none around `/ ^ :` and `%%`."""
    match node:
        case Num(value, integer):
            return f"{value:.0f}L" if integer else format_number(value)
        case Str(value):
            escaped = value.replace("\\", "\\\\").replace('"', '\\"')
            return f'"{escaped}"'
        case Name(name):
            return name if name in _CONSTANTS else quote_name(name)
        case Call("(", (inner,)):
            return f"({deparse(inner)})"
        case Call(op, (operand,), ()) if op in ("+", "-", "!", "~"):
            return f"{op}{deparse(operand)}"
        case Call(op, (left, right), ()) if op in _BINARY or op.startswith("%"):
            gap = " " if op in _SPACED else ""
            return f"{deparse(left)}{gap}{op}{gap}{deparse(right)}"
        case Call(fn, args, names):
            keys = names or ("",) * len(args)
            inside = (f"{key} = {deparse(a)}" if key else deparse(a) for a, key in zip(args, keys, strict=True))
            return f"{quote_name(fn)}({', '.join(inside)})"
    raise TypeError(f"not an expression: {node!r}")


def names_in(node: Node) -> Iterator[str]:
    """The variables an expression reads, left to right, function names apart."""
    match node:
        case Name(name):
            yield name
        case Call(_, args):
            for arg in args:
                yield from names_in(arg)
