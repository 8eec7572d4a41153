"""The algebra of R's model formulas: which terms, in which order, coded how.

A term is a set of variables, kept as a bit mask over the variables in their order of appearance; that order, not the
order within the term, gives the names of interactions. Operators as in `?formula`:

    a + b    union                      a:b, a %in% b   interaction
    a * b    a + b + a:b                a / b           a + a:b   ((a + b)/c is a + b + a:b:c)
    (a+b)^2  crossed with itself        a - b           a without b;   - 1, + 0: no intercept
    offset(x) is no term

Terms are sorted by degree, otherwise as they came. **Coding** (`TermCode` in R's model.c): a factor is coded by
contrasts in a term when the term without it is empty or is contained in an earlier term, otherwise by indicators of
all its levels; without an intercept the first factor of the first term that has one gets all its levels. This is not
the minimal full-rank coding of patsy and formulaic: `~ a:b` has every cell and an intercept, and the rank is found
afterwards, as in lme4.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from vcbench.errors import FormulaError
from vcbench.model.rlang import Call, Name, Node, Num, Str, deparse

CONTRASTS, INDICATORS = 1, 2


@dataclass(frozen=True, slots=True)
class Terms:
    """`variables` in order of appearance, `terms` bit masks over them (sorted), `offsets` the arguments of offset()."""

    variables: tuple[Node, ...]
    terms: tuple[int, ...]
    intercept: bool
    offsets: tuple[Node, ...]

    @classmethod
    def of(
        cls, variables: Sequence[Node], terms: Iterable[int], intercept: bool, offsets: Sequence[Node] = ()
    ) -> "Terms":
        """Without the variables that are in no term, such as b in `a - b`."""
        terms = sorted(terms, key=int.bit_count)
        used = [v for v in range(len(variables)) if _union(terms) >> v & 1]
        renumbered = [sum((term >> v & 1) << new for new, v in enumerate(used)) for term in terms]
        return cls(tuple(variables[v] for v in used), tuple(renumbered), intercept, tuple(offsets))

    def members(self, term: int) -> list[int]:
        return [v for v in range(len(self.variables)) if term >> v & 1]

    def separate(self) -> list["Terms"]:
        """One Terms for the intercept and one, without intercept, for each term."""
        alone = [Terms.of(self.variables, (term,), False) for term in self.terms]
        return [Terms((), (), True, ()), *alone] if self.intercept else alone

    def coding(self, is_factor: Callable[[int], bool]) -> list[list[tuple[int, int]]]:
        """For each term its variables, each with CONTRASTS or INDICATORS (without meaning for a numeric variable)."""
        coded = [
            [(v, _code(term & ~(1 << v), self.terms[:j])) for v in self.members(term)]
            for j, term in enumerate(self.terms)
        ]
        if not self.intercept:
            first = next(
                ((j, k) for j, term in enumerate(coded) for k, (v, _) in enumerate(term) if is_factor(v)), None
            )
            if first is not None:
                j, k = first
                coded[j][k] = (coded[j][k][0], INDICATORS)
        return coded


def _code(rest: int, earlier: tuple[int, ...]) -> int:
    return CONTRASTS if not rest or any(rest & ~term == 0 for term in earlier) else INDICATORS


class _Expansion:
    """One walk over a formula's right-hand side; `intercept` is switched by 0 and 1 as they are met, as in R."""

    def __init__(self, formula: str) -> None:
        self.formula, self.intercept = formula, True
        self.variables: list[Node] = []

    def fail(self, problem: str) -> FormulaError:
        return FormulaError(f"formula `{self.formula}`: {problem}")

    def variable(self, node: Node) -> list[int]:
        if node not in self.variables:
            self.variables.append(node)
        return [1 << self.variables.index(node)]

    def expand(self, node: Node, plus: bool = True) -> list[int]:
        match node:
            case Num(value):
                if value not in (0, 1):
                    raise self.fail(
                        f"the number {deparse(node)} is no term; only 0 and 1 (no intercept, intercept) are."
                    )
                self.intercept = plus == (value == 1)
                return []
            case Str(value):
                raise self.fail(
                    f'the text "{value}" is no term. Write the column without quotes (backquotes for spaces).'
                )
            case Name("."):
                raise self.fail("`.` (all other columns) is not supported. Name the columns, joined by `+`.")
            case Name("TRUE" | "FALSE" | "NULL" | "NA" | "Inf" | "NaN" | "pi" as name):
                raise self.fail(f"`{name}` is a constant and no term.")
            case Call("(", (inner,)):
                return self.expand(inner, plus)
            case Call("+", (inner,), ()):
                return self.expand(inner, plus)
            case Call("-", (inner,), ()):
                self.expand(inner, not plus)
                return []
            case Call("+", (left, right), ()):
                return _unique(self.expand(left, plus) + self.expand(right, plus))
            case Call("-", (left, right), ()):
                kept = self.expand(left, plus)
                removed = self.expand(right, not plus)
                return [term for term in kept if term not in removed]
            case Call(":" | "*" | "/" | "%in%" as op, (left, right), ()):
                return _cross(op, self.expand(left, plus), self.expand(right, plus))
            case Call("^", (base, power), ()):
                return self.power(base, power, plus)
            case Call("|" | "||", _):
                raise self.fail(
                    f"the random term `{deparse(node)}` must stand in parentheses and be joined "
                    "with `+`, as in `y ~ x + (1 | g)`."
                )
            case Call("~", _):
                raise self.fail("`~` occurs twice; a formula has one response and one right-hand side.")
            case Call(op, _) if op.startswith("%") and op not in ("%%", "%/%"):
                raise self.fail(f"the operator `{op}` is not known.")
        return self.variable(node)

    def power(self, base: Node, power: Node, plus: bool) -> list[int]:
        if not isinstance(power, Num) or power.value < 1 or power.value % 1 != 0:
            raise self.fail(
                f"`^{deparse(power)}`: outside I() a power crosses terms and must be a whole number ≥ 1. "
                f"For arithmetic write I({deparse(base)}^{deparse(power)})."
            )
        once = self.expand(base, plus)
        if len(once) < 2 and power.value > 1:
            raise self.fail(
                f"`{deparse(base)}^{deparse(power)}` is just `{deparse(base)}` in a formula (a power crosses terms). "
                f"For arithmetic write I({deparse(base)}^{deparse(power)})."
            )
        terms = once
        for _ in range(min(int(power.value), len(once)) - 1):
            terms = _unique([a | b for a in once for b in terms])
        return terms


def _unique(terms: list[int]) -> list[int]:
    return list(dict.fromkeys(terms))


def _cross(op: str, left: list[int], right: list[int]) -> list[int]:
    match op:
        case ":":
            return _unique([a | b for a in left for b in right])
        case "*":
            return _unique([*left, *right, *(a | b for a in left for b in right)])
        case "/":
            return _unique([*left, *(_union(left) | b for b in right)])
    return _unique([a | _union(right) for a in left])


def _union(terms: Iterable[int]) -> int:
    union = 0
    for term in terms:
        union |= term
    return union


def expand_terms(node: Node, formula: str) -> Terms:
    """The terms of a right-hand side without random terms; `formula` is what messages quote.

    Raises FormulaError for `.`, for numbers other than 0 and 1, for a bar outside parentheses, and for an offset that
    is crossed with or taken away from something.
    """
    walk = _Expansion(formula)
    found = walk.expand(node)
    is_offset = [isinstance(v, Call) and v.fn == "offset" for v in walk.variables]
    alone = [v for v, offset in enumerate(is_offset) if offset and 1 << v in found]
    mask = _union([1 << v for v, offset in enumerate(is_offset) if offset])
    found = [term for term in found if term.bit_count() != 1 or not term & mask]
    if len(alone) < sum(is_offset) or any(term & mask for term in found):
        raise walk.fail("offset() can only be added: it is no part of an interaction and cannot be taken away.")
    offsets = []
    for v in alone:
        call = walk.variables[v]
        if not isinstance(call, Call) or len(call.args) != 1:
            raise walk.fail(f"`{deparse(call)}`: offset() takes one expression.")
        offsets.append(call.args[0])
    return Terms.of(walk.variables, found, walk.intercept, offsets)
