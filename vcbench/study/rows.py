"""Rows: one per (condition, replicate, method, parameter), as Arrow tables, a block of replicates at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from vcbench.fitted import CODES
from vcbench.status import Status
from vcbench.study.conditions import Condition
from vcbench.study.entries import MethodEntry
from vcbench.study.seeds import canonical_json, seed_text
from vcbench.study.spec import Spec

PER_FIT = ("loglik", "n_iter", "n_eval", "seconds", "cpu_seconds")
PER_PARAMETER = ("estimate", "se", "lower", "upper", "p_value")
LIMITS = ("lower", "upper")  # which may be infinite
KEYS = ("condition", "replicate", "method", "parameter")


@dataclass(slots=True)
class BlockFit:
    """What one method gave on R responses of one design: (R, P) arrays in the order of `parameters`, and (R,) lists.

    NaN is nothing; a limit may be infinite. `interval` says what kind the limits are, null where there are none.
    `p_value` is that of a test of a component, in the rows of its parameters. `extra` holds a method's own numbers,
    one mapping a replicate. Of data that lose rows, `n_obs` (R,) are those left, and a fit has no row of a parameter
    that neither it nor the truth has.
    """

    parameters: tuple[str, ...]
    estimate: np.ndarray
    se: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    p_value: np.ndarray
    loglik: np.ndarray
    n_iter: np.ndarray
    n_eval: np.ndarray
    seconds: np.ndarray
    cpu_seconds: np.ndarray
    status: list[Status]
    message: list[str]
    interval: str | None = "wald"
    level: float = 0.95
    extra: list[Mapping[str, Any]] = field(default_factory=list)
    n_obs: np.ndarray | None = None

    @classmethod
    def empty(cls, parameters: Sequence[str], n: int, status: Status, message: str) -> "BlockFit":
        """n fits that gave nothing, and why."""
        arrays: dict[str, Any] = {name: np.full((n, len(parameters)), np.nan) for name in PER_PARAMETER}
        arrays |= {name: np.full(n, np.nan) for name in PER_FIT}
        return cls(tuple(parameters), **arrays, status=[status] * n, message=[message] * n, interval=None)

    @classmethod
    def joined(cls, parts: Sequence["BlockFit"]) -> "BlockFit":
        """Blocks of one method, one after the other; a parameter that one of them lacks is NaN there."""
        first = parts[0]
        names = tuple(dict.fromkeys(name for part in parts for name in part.parameters))
        arrays: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in PER_FIT}
        for name in PER_PARAMETER:
            arrays[name] = np.concatenate([_over(names, part, getattr(part, name)) for part in parts])
        interval = next((part.interval for part in parts if part.interval), None)
        return cls(
            names, **arrays, status=[s for part in parts for s in part.status],
            message=[m for part in parts for m in part.message], interval=interval, level=first.level,
            extra=[e for part in parts for e in part.extra],
        )  # fmt: skip


def _over(names: tuple[str, ...], part: BlockFit, values: np.ndarray) -> np.ndarray:
    """(R, P) values of a block in the columns of `names`."""
    if part.parameters == names:
        return values
    out = np.full((len(values), len(names)), np.nan)
    out[:, [names.index(name) for name in part.parameters]] = values
    return out


def schema_of(spec: Spec) -> pa.Schema:
    """The rows' schema; a factor is a number where all its levels are, else text.

    `interval` is null where a row has no limits: "wald" (symmetric on the natural scale), "wald-sd", "wald-log",
    "profile", "bootstrap-percentile", "bootstrap-basic", "bootstrap-bca" or "eti", a posterior's equal tails. Limits
    may be infinite. `p_value` is null but in the rows of a component that the method tests. `n_obs`, the rows of the
    data, is there where a study's data lose some.
    """
    text, number, whole = pa.string(), pa.float64(), pa.int64()
    fields = [("study", text), ("spec_hash", text), ("condition", text)]
    fields += [(f"factor_{name}", kind) for name, kind in factor_types(spec).items()]
    fields += [("replicate", whole), ("method", text), ("criterion", text), ("parameter", text), ("truth", number)]
    fields += [(name, number) for name in ("estimate", "se", *LIMITS)]
    fields += [("interval", text), ("level", number), ("p_value", number), ("loglik", number)]
    fields += [("status", text), ("code", text), ("message", text), ("n_iter", whole), ("n_eval", whole)]
    fields += [("seconds", number), ("cpu_seconds", number), ("seed_key", text)]
    if any(condition.loses_rows for condition in spec.conditions):
        fields.append(("n_obs", whole))
    return pa.schema(fields)


def factor_types(spec: Spec) -> dict[str, pa.DataType]:
    """Every factor of the study with its type, in order of appearance."""
    levels: dict[str, list[Any]] = {}
    for condition in spec.conditions:
        for name, level in condition.factors.items():
            levels.setdefault(name, []).append(level)
    number = {
        name: all(isinstance(level, int | float) and not isinstance(level, bool) for level in found)
        for name, found in levels.items()
    }
    return {name: pa.float64() if number[name] else pa.string() for name in levels}


def _level(level: Any, kind: pa.DataType) -> Any:
    """A level as its column holds it: where those of other conditions are text, a number is too."""
    return canonical_json(level) if kind == pa.string() and isinstance(level, int | float) else level


def build_table(
    spec: Spec, stem: str, condition: Condition, method: MethodEntry, first: int, fit: BlockFit,
    truth: Mapping[str, float] | Sequence[Mapping[str, float]],
) -> pa.Table:  # fmt: skip
    """The rows of replicates `first`, `first` + 1, … of one condition and method.

    `truth` by parameter name, or one such mapping a replicate; empty for real data. A parameter outside the truth keeps
    its row with a null truth.
    """
    R, P = fit.estimate.shape
    key = condition.key
    replicates = np.arange(first, first + R)
    by_parameter = np.tile(np.arange(P), R)
    by_fit = np.repeat(np.arange(R), P)
    limits = ~np.isnan(fit.lower) & ~np.isnan(fit.upper)
    constant: dict[str, Any] = {
        "study": stem,
        "spec_hash": spec.spec_hash,
        "condition": condition.id,
        "method": method.label,
        "criterion": method.criterion or "none",
    }
    constant |= {f"factor_{name}": _level(condition.factors.get(name), k) for name, k in factor_types(spec).items()}
    per_fit: dict[str, Any] = {
        "replicate": pa.array(replicates),
        "status": pa.array([str(status) for status in fit.status]),
        "code": pa.array([CODES[status] for status in fit.status]),
        "message": pa.array(fit.message, pa.string()),
        "seed_key": pa.array([seed_text(key, r) for r in range(first, first + R)]),
        "loglik": numbers(fit.loglik),
        "n_iter": wholes(fit.n_iter),
        "n_eval": wholes(fit.n_eval),
        "seconds": numbers(fit.seconds),
        "cpu_seconds": numbers(fit.cpu_seconds),
        "n_obs": wholes(np.full(R, np.nan) if fit.n_obs is None else fit.n_obs),
    }
    ravelled: dict[str, Any] = {name: numbers(getattr(fit, name).ravel()) for name in PER_PARAMETER}
    ravelled |= {name: numbers(getattr(fit, name).ravel(), infinite=True) for name in LIMITS}
    ravelled["truth"] = numbers(_truth(truth, fit.parameters, R))
    ravelled["interval"] = pa.array(np.full(R * P, fit.interval or ""), mask=~limits.ravel()).cast(pa.string())
    ravelled["level"] = numbers(np.where(limits.ravel(), fit.level, np.nan))
    columns = []
    for item in schema_of(spec):
        if item.name in constant:
            columns.append(pa.repeat(pa.scalar(constant[item.name], item.type), R * P))
        elif item.name in per_fit:
            columns.append(per_fit[item.name].take(pa.array(by_fit)))
        elif item.name == "parameter":
            columns.append(pa.array(fit.parameters).take(pa.array(by_parameter)))
        else:
            columns.append(ravelled[item.name])
    rows = pa.Table.from_arrays(columns, schema=schema_of(spec))
    if not condition.loses_rows:
        return rows
    own = ~(np.isnan(fit.estimate).ravel() & np.isnan(_truth(truth, fit.parameters, R)))
    return rows.filter(pa.array(own))


def _truth(truth: Mapping[str, float] | Sequence[Mapping[str, float]], parameters: Sequence[str], R: int) -> np.ndarray:
    if isinstance(truth, Mapping):
        return np.tile([truth.get(name, np.nan) for name in parameters], R)
    return np.array([[one.get(name, np.nan) for name in parameters] for one in truth]).ravel()


def numbers(x: np.ndarray, infinite: bool = False) -> pa.Array:
    """Floats; NaN becomes null, and so does what is `infinite` unless that is allowed."""
    x = np.asarray(x, float)
    return pa.array(x, mask=np.isnan(x) if infinite else ~np.isfinite(x))


def wholes(x: np.ndarray) -> pa.Array:
    """Counts; NaN becomes null."""
    x = np.asarray(x, float)
    known = np.isfinite(x)
    return pa.array(np.where(known, x, 0).astype(np.int64), mask=~known)
