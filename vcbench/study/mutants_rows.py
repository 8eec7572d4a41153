"""Mutants of what a study does around its fits: standard errors, limits, names, seeds, resuming, measures."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from statistics import NormalDist
from typing import Any
from unittest import mock

import numpy as np
import pyarrow.compute as pc

from vcbench.status import Status
from vcbench.study import estimators, fitting, measures, parts, rows, work
from vcbench.study.derived import name_of
from vcbench.study.groups import Group
from vcbench.study.rows import BlockFit
from vcbench.study.seeds import DESIGN, generator
from vcbench.study.store import Store

Change = Callable[[BlockFit, float], BlockFit]
ENDED_WELL = tuple(str(status) for status in Status if status.ok)


@contextmanager
def _changed(change: Change) -> Iterator[None]:
    """Every block of fits passes through `change`."""
    own = work.fit_block

    def fit_block(model: Any, Y: np.ndarray, method: Any, level: float, *more: Any) -> tuple:
        fit, path, warned = own(model, Y, method, level, *more)
        return change(fit, level), path, warned

    with mock.patch.object(work, "fit_block", fit_block):
        yield


def _wald(fit: BlockFit, se: np.ndarray, level: float, centre: np.ndarray | None = None) -> BlockFit:
    half = NormalDist().inv_cdf((1 + level) / 2) * se
    at = fit.estimate if centre is None else centre
    return replace(fit, se=se, lower=at - half, upper=at + half)


@contextmanager
def _variance_for_se() -> Iterator[None]:
    """M7: the delta method's variance of a derived function, without its root."""
    own = fitting.with_derived

    def with_derived(fit: BlockFit, many: Any, method: Any, level: float) -> BlockFit:
        found = own(fit, many, method, level)
        derived = np.isin(found.parameters, [name_of(said) for said in method.derive])
        wrong = _wald(found, found.se**2, level)
        parts: dict[str, Any] = {
            name: np.where(derived, getattr(wrong, name), getattr(found, name)) for name in ("se", "lower", "upper")
        }
        return replace(found, **parts)

    with mock.patch.object(fitting, "with_derived", with_derived):
        yield


@contextmanager
def _numerator_for_share() -> Iterator[None]:
    """M11: what is called the heritability is σ_u²: of `h2 = snp / total`, the numerator."""
    own = fitting.with_derived

    def with_derived(fit: BlockFit, many: Any, method: Any, level: float) -> BlockFit:
        return own(fit, many, replace(method, derive=tuple(said.partition("/")[0] for said in method.derive)), level)

    with mock.patch.object(fitting, "with_derived", with_derived):
        yield


def _se_of_the_sd(fit: BlockFit, level: float) -> BlockFit:
    """O4: se(σ̂) = se(σ̂²)/2σ̂, given as that of σ̂²."""
    variance = np.array([":var" in name for name in fit.parameters])
    with np.errstate(divide="ignore", invalid="ignore"):
        se = np.where(variance, fit.se / (2 * np.sqrt(np.abs(fit.estimate))), fit.se)
    return _wald(fit, se, level)


def _one_sided(fit: BlockFit, level: float) -> BlockFit:
    """O5: θ̂ ± z_level·se for θ̂ ± z_(1 + level)/2·se."""
    return _wald(fit, fit.se, 2 * level - 1)


def _swapped(fit: BlockFit, level: float) -> BlockFit:
    """O6: the first two parameters under each other's names."""
    order = [1, 0, *range(2, len(fit.parameters))]
    names = ("estimate", "se", "lower", "upper")
    more: dict[str, Any] = {name: getattr(fit, name)[:, order] for name in names}
    return replace(fit, **more)


def _wrong_side(fit: BlockFit, level: float) -> BlockFit:
    """O13: each limit on the other side."""
    return replace(fit, lower=fit.upper, upper=fit.lower)


@contextmanager
def _centred_on_the_truth() -> Iterator[None]:
    """O7: limits moved from θ̂ to θ, possible where the rows' truth is at hand."""

    def build_table(spec: Any, stem: str, condition: Any, method: Any, first: int, fit: BlockFit, truth: Any) -> Any:
        one = truth if isinstance(truth, dict) else truth[0]
        centre = np.array([one.get(name, np.nan) for name in fit.parameters]) + 0 * fit.estimate
        moved = _wald(fit, fit.se, spec.table.level, centre)
        return rows.build_table(spec, stem, condition, method, first, moved, truth)

    with mock.patch.object(work, "build_table", build_table):
        yield


@contextmanager
def _one_stream_for_all_conditions() -> Iterator[None]:
    """O8: the condition's key is left out of the data's seed; designs keep their own."""

    def same(seed: int, key: Any, replicate: int, stream: int = 0) -> np.random.Generator:
        return generator(seed, key if replicate == DESIGN else (0, 0), replicate, stream)

    with mock.patch.object(work, "generator", same):
        yield


@contextmanager
def _streams_begin_anew() -> Iterator[None]:
    """O15: the data of a block are drawn as if it were the first."""
    own = work._draw

    def draw(spec: Any, condition: Any, task: Any) -> Any:
        return own(spec, condition, replace(task, first=0))

    with mock.patch.object(work, "_draw", draw):
        yield


@contextmanager
def _blocks_begun_are_done() -> Iterator[None]:
    """O9: on resuming, a block of which some replicates are in hand counts as finished."""
    own = Store.done

    def done(store: Store) -> dict[tuple[str, int], set[int]]:
        size = store.spec.table.block_size
        return {
            key: {r for have in found for r in range(have // size * size, (have // size + 1) * size)}
            for key, found in own(store).items()
        }

    with mock.patch.object(Store, "done", done):
        yield


@contextmanager
def _failures_left_out() -> Iterator[None]:
    """O11: the rows of fits that did not converge are not written."""

    def build_table(*arguments: Any) -> Any:
        table = rows.build_table(*arguments)
        return table.filter(pc.is_in(table["status"], value_set=pc.cast(list(ENDED_WELL), "string")))

    with mock.patch.object(work, "build_table", build_table):
        yield


@contextmanager
def _unaligned() -> Iterator[None]:
    """O12: every method but the first is compared with what that gave on the replicate before."""
    own = measures.build_group

    def build_group(*arguments: Any) -> Group:
        found = own(*arguments)
        estimate = found.estimate.copy()
        estimate[1:] = np.roll(estimate[1:], 1, axis=1)
        return replace(found, estimate=estimate)

    with (
        mock.patch.object(measures, "build_group", build_group),
        mock.patch.object(parts, "build_group", build_group),
    ):
        yield


@contextmanager
def _n_for_n_minus_1() -> Iterator[None]:
    """O14: standard deviations of the measures' terms with n in the place of n − 1."""

    def sd(x: np.ndarray) -> np.ndarray:
        n = np.sum(~np.isnan(x), axis=1)
        centred = x - (np.nansum(x, axis=1) / np.maximum(n, 1))[:, None]
        return np.sqrt(np.nansum(centred**2, axis=1) / n)

    with mock.patch.object(estimators, "_sd", sd):
        yield


ROWS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "M7": _variance_for_se,
    "M11": _numerator_for_share,
    "O4": partial(_changed, _se_of_the_sd),
    "O5": partial(_changed, _one_sided),
    "O6": partial(_changed, _swapped),
    "O7": _centred_on_the_truth,
    "O8": _one_stream_for_all_conditions,
    "O9": _blocks_begun_are_done,
    "O11": _failures_left_out,
    "O12": _unaligned,
    "O13": partial(_changed, _wrong_side),
    "O14": _n_for_n_minus_1,
    "O15": _streams_begin_anew,
}
