"""A task: some methods on one block of replicates of one condition, run here or in another process."""

import os
import platform
import socket
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from vcbench.errors import DataError, VcbenchError
from vcbench.kernels import build
from vcbench.model.model import Model
from vcbench.status import Status
from vcbench.study.conditions import Condition
from vcbench.study.derived import true_values
from vcbench.study.entries import MethodEntry
from vcbench.study.fitting import Streams, fit_block, thin
from vcbench.study.incomplete import Incomplete, Thinned
from vcbench.study.mutants import switched_in
from vcbench.study.rows import BlockFit, build_table, numbers
from vcbench.study.said import Said, said_by_card
from vcbench.study.seeds import DATA, DESIGN, canonical_json, generator, seed_sequence
from vcbench.study.simulate import Simulator
from vcbench.study.spec import Spec
from vcbench.study.traits import Traits

Design = Simulator | Thinned | Incomplete | Traits
DESIGNS = (Simulator, Thinned, Incomplete, Traits)
KEPT_DESIGNS = 4
BLAS_THREADS = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


@dataclass(frozen=True, slots=True)
class Task:
    """Replicates `first` … `first` + `n` − 1 of a condition, by the methods at these places of the specification."""

    condition: int
    methods: tuple[int, ...]
    first: int
    n: int


@dataclass(frozen=True, slots=True)
class Part:
    """What one method gave: its rows and path, how the fits ended, what they cost, and which failed."""

    method: int
    rows: pa.Table
    trace: pa.Table | None
    endings: Mapping[str, int]
    seconds: float
    failures: tuple[tuple[int, str, str], ...]


@dataclass(frozen=True, slots=True)
class Result:
    """A finished task."""

    task: Task
    parts: tuple[Part, ...]
    warnings: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Data:
    """Responses of a block: one model for all (Y), or one a replicate; the truth and how the model is said likewise."""

    models: Sequence[Model | VcbenchError] | Sequence[Traits]
    Y: np.ndarray | None
    truth: Any
    said: tuple[Said | None, ...] = ()


def run_task(spec: Spec, stem: str, task: Task) -> Result:
    """Draw the data of a task, fit them by each of its methods, and return rows."""
    with switched_in(spec.table.mutant):
        return _run_task(spec, stem, task)


def _run_task(spec: Spec, stem: str, task: Task) -> Result:
    use_one_thread()
    condition = spec.conditions[task.condition]
    parts, warned = [], Counter[str]()
    kept: dict[Any, Any] = {}
    try:
        data: _Data | None = _draw(spec, condition, task)
        lost = ""
    except VcbenchError as error:
        data, lost = None, str(error)
    for i in task.methods:
        method = spec.methods[i]
        began = time.perf_counter()
        trace = None
        if data is None:
            fit, truth = BlockFit.empty(_parameters(condition), task.n, Status.SKIPPED, lost), {}
        else:
            with switched_in(method.mutant):
                fit, path, more = _fit(spec, condition, method, task, data, kept)
            warned.update(more)
            truth = data.truth
            if path is not None and len(path):
                trace = _trace_table(condition, method, path)
        rows = build_table(spec, stem, condition, method, task.first, fit, truth).replace_schema_metadata(
            {"vcbench": canonical_json(provenance() | _program(fit))}
        )
        failures = tuple(
            (task.first + r, str(status), message)
            for r, (status, message) in enumerate(zip(fit.status, fit.message, strict=True))
            if not status.ok
        )
        endings = Counter(str(status) for status in fit.status)
        parts.append(Part(i, rows, trace, endings, time.perf_counter() - began, failures))
    return Result(task, tuple(parts), warned)


def lost_task(spec: Spec, stem: str, task: Task, status: Status, why: str) -> Result:
    """The rows of a task that could not be run."""
    condition = spec.conditions[task.condition]
    try:
        source = _prepare(spec, task.condition)
    except VcbenchError:
        source = None
    if isinstance(source, DESIGNS):
        truth = _truth_of(spec, source)
        names = tuple(truth)
    elif isinstance(source, Model):
        names, truth = (*source.theta_names, *(source.X_names or ())), {}
    else:
        names, truth = _parameters(condition), {}
    parts = []
    for i in task.methods:
        fit = BlockFit.empty(names, task.n, status, why)
        rows = build_table(spec, stem, condition, spec.methods[i], task.first, fit, truth)
        failures = tuple((task.first + r, str(status), why) for r in range(task.n))
        parts.append(Part(i, rows, None, {str(status): task.n}, 0.0, failures))
    return Result(task, tuple(parts))


def _draw(spec: Spec, condition: Condition, task: Task) -> _Data:
    """The data of a block. Real data are the card's own."""
    source = _prepare(spec, task.condition)
    if isinstance(source, Model):
        return _Data([source], source.y[:, None], {}, (_said_of(condition),))
    seed, key = spec.table.seed, condition.key
    rngs = [generator(seed, key, r, DATA) for r in range(task.first, task.first + task.n)]
    if source is None:
        assert condition.generator is not None
        # the design comes from the replicate's own stream
        drawn: Any = [condition.generator.build(rng) for rng in rngs]
        each = [_draw_one(one, rng) for one, rng in zip(drawn, rngs, strict=True)]
        return _Data([m for m, _ in each], None, [_truth_of(spec, one) for one in drawn], tuple(s for _, s in each))
    if isinstance(source, Incomplete):
        each = [_draw_one(source, rng) for rng in rngs]
        truth = _truth_of(spec, source)
        return _Data([m for m, _ in each], None, [truth] * len(each), tuple(said for _, said in each))
    if isinstance(source, Traits):
        return _Data([source], source.draw(rngs), source.truth)
    return _Data([source.model], source.draw(rngs), _truth_of(spec, source), (source.said,))


def _draw_one(source: Any, rng: np.random.Generator) -> tuple[Model | VcbenchError, Said | None]:
    """A replicate that is a model by itself, and how it is said."""
    if isinstance(source, Incomplete):
        return source.draw_one(rng)
    return source.model.replace(y=source.draw([rng])[:, 0]), source.said


def _said_of(condition: Condition) -> Said | None:
    """How a card says the model of its real data."""
    from vcbench.cards import load_card

    return None if condition.card is None else said_by_card(load_card(condition.card))


def _truth_of(spec: Spec, source: Design) -> dict[str, float]:
    """The true values, with those of the functions that the study derives."""
    if isinstance(source, Traits):
        return source.truth
    return source.truth | true_values(source.model, source.truth, spec.table.derive)


_prepared: dict[tuple[str, int], Model | Design | None] = {}


def _prepare(spec: Spec, index: int) -> Model | Design | None:
    """A condition's design, kept for the next block: the card's Model, a Simulator or Traits; None if redrawn."""
    where = (spec.spec_hash, index)
    if where not in _prepared:
        while len(_prepared) >= KEPT_DESIGNS:
            _prepared.pop(next(iter(_prepared)))
        _prepared[where] = _build(spec, spec.conditions[index])
    return _prepared[where]


def _build(spec: Spec, condition: Condition) -> Model | Design | None:
    if condition.generator is None:
        from vcbench.cards import load_card

        assert condition.card is not None
        return load_card(condition.card).model()
    if condition.generator.redraws:
        return None
    return condition.generator.build(generator(spec.table.seed, condition.key, DESIGN))


def _fit(
    spec: Spec, condition: Condition, method: MethodEntry, task: Task, data: _Data, kept: dict[Any, Any]
) -> tuple[BlockFit, np.ndarray | None, Counter[str]]:
    """The fits of a block, and the path of replicate 0 where the study keeps it."""
    level = spec.table.level
    if method.model is not None:
        try:
            data = _said_otherwise(spec, task.condition, method, data)
        except VcbenchError as error:
            names = data.truth if isinstance(data.truth, Mapping) else data.truth[0]
            return BlockFit.empty(tuple(names), task.n, Status.SKIPPED, str(error)), None, Counter()
    streams = Streams(
        tuple(
            seed_sequence(spec.table.seed, condition.key, r, method.stream)
            for r in range(task.first, task.first + task.n)
        ),
        seed_sequence(spec.table.seed, condition.key, DESIGN, method.stream),
        kept,
    )
    if data.Y is None:
        redrawn: Sequence[Any] = data.models
        each = [_fit_one(one, tuple(data.truth[j]), method, level, streams.at(j)) for j, one in enumerate(redrawn)]
        warned = sum((more for _, _, more in each), Counter[str]())
        path = each[0][1]
        fit = BlockFit.joined([one for one, _, _ in each])
    else:
        model: Any = data.models[0]
        _warm(spec, condition, model, data.Y, method)
        fit, path, warned = fit_block(model, data.Y, method, level, streams)
        if task.first == 0 and path is None and spec.table.trace and method.kind == "solver":
            _, path, _ = fit_block(model, data.Y[:, :1], method, level)
    if condition.loses_rows:
        n = [getattr(model, "n_obs", np.nan) for model in data.models]
        fit = replace(fit, n_obs=np.broadcast_to(np.array(n, float), (task.n,)))
    return fit, path if task.first == 0 and spec.table.trace else None, warned


def _fit_one(
    model: Model | VcbenchError, names: tuple[str, ...], method: MethodEntry, level: float, streams: Streams
) -> tuple[BlockFit, np.ndarray | None, Counter[str]]:
    """The fit of a replicate that is a model by itself; SKIPPED where what is left of its data is none."""
    if isinstance(model, VcbenchError):
        return BlockFit.empty(names, 1, Status.SKIPPED, str(model)), None, Counter()
    fit, path, warned = fit_block(model, model.y[:, None], method, level, streams)
    lost = tuple(name for name in names if name not in fit.parameters)  # a fixed effect whose level was lost
    if lost and method.model is None:
        fit = BlockFit.joined([fit, BlockFit.empty(lost, 0, Status.SKIPPED, "")])
    return fit, path, warned


_otherwise: dict[tuple[str, int, str], Model] = {}


def _said_otherwise(spec: Spec, index: int, method: MethodEntry, data: _Data) -> _Data:
    """The same responses under the models that a method fits instead of their own. Raises VcbenchError."""
    assert method.model is not None
    drawn: Sequence[Any] = data.models
    if any(said is None for said in data.said) or not data.said:
        raise DataError("the model of these data is not said by a formula, so that it cannot be said otherwise.")
    if data.Y is None:
        pairs = zip(data.said, drawn, strict=True)
        return replace(data, models=[_otherwise_alone(method, said, one) for said, one in pairs if said is not None])
    where = (spec.spec_hash, index, method.label)
    if where not in _otherwise:
        while len(_otherwise) >= KEPT_DESIGNS * len(spec.methods):
            _otherwise.pop(next(iter(_otherwise)))
        said = data.said[0]
        assert said is not None
        _otherwise[where] = said.otherwise(method.model, drawn[0])
    return replace(data, models=[_otherwise[where]])


def _otherwise_alone(method: MethodEntry, said: Said, drawn: Model | VcbenchError) -> Model | VcbenchError:
    """The same of a replicate that is a model by itself; why not, where there is none."""
    assert method.model is not None
    if isinstance(drawn, VcbenchError):
        return drawn
    try:
        return said.otherwise(method.model, drawn).replace(y=drawn.y)
    except VcbenchError as error:
        return error


_warmed: set[tuple[str, str, str]] = set()


def _warm(spec: Spec, condition: Condition, model: Model | Traits, Y: np.ndarray, method: MethodEntry) -> None:
    """Build the kernel on the model's own response, then take untimed steps.

    A kernel's scale is that of the response it was built on: were it built on the first replicate that comes along, the
    last bits of all others would depend on which that was. The steps are taken so that no fit is charged for compiling.
    """
    if method.long or isinstance(model, Traits):
        return
    try:
        build(model, str(method.options.get("kernel", "auto")))
    except VcbenchError:
        return  # the fits will say so
    what = (spec.spec_hash, condition.id, method.label)
    if method.kind != "solver" or what in _warmed:
        return
    _warmed.add(what)
    one_step = replace(method, options={**method.options, "max_iter": 1})
    for width in {1, min(2, Y.shape[1])}:  # one response and many take different paths
        fit_block(model, Y[:, :width], one_step, spec.table.level)


def _parameters(condition: Condition) -> tuple[str, ...]:
    """What a condition without data has rows for: nothing is known of its parameters but that there is a residual."""
    return ("residual:var",)


def _trace_table(condition: Condition, method: MethodEntry, path: np.ndarray) -> pa.Table:
    """Log-likelihood and seconds against iteration, thinned where it is long."""
    keep = thin(len(path))
    n = len(keep)
    return pa.table({
        "condition": pa.repeat(condition.id, n), "replicate": pa.repeat(pa.scalar(0, pa.int64()), n),
        "method": pa.repeat(method.label, n), "iteration": pa.array(keep, pa.int64()),
        "loglik": numbers(path[keep, 0]), "seconds": numbers(path[keep, -1]),
    })  # fmt: skip


@cache
def provenance() -> dict[str, str]:
    """What made a shard."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version(), "system": platform.system(), "processor": _processor()}
    found["host"] = socket.gethostname()
    for name in ("vcbench", "numpy", "scipy", "numba", "pymc", "nutpie"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    if "vcbench" not in found:
        import vcbench

        found["vcbench"] = vcbench.__version__
    return found


def _program(fit: BlockFit) -> dict[str, str]:
    """The other program that made the fits, where one did, and its version."""
    made = next((extra for extra in fit.extra if "program" in extra), None)
    if made is None:
        return {}
    return {made["program"]: " · ".join(str(made[key]) for key in ("version", "platform") if key in made)}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            name = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "")
    except OSError:
        name = ""
    return f"{name or platform.processor() or platform.machine()}, {os.cpu_count()} cores"


@cache
def use_one_thread() -> None:
    """One thread for every BLAS of this process, once: two threads round differently from one.

    numpy and scipy bring a BLAS each, and scipy's loads late: one that is not loaded yet cannot be told.
    """
    import scipy.linalg  # noqa: F401 - loads scipy's BLAS, so that the limit reaches it
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)


def start_worker() -> None:
    """What a worker does first: one BLAS thread, deaf to Ctrl-C (its parent hears it), and gone with its parent."""
    import signal
    from multiprocessing import parent_process
    from multiprocessing.connection import wait

    use_one_thread()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:

        def leave_with_parent(sentinel: int = parent.sentinel) -> None:
            wait([sentinel])
            os._exit(1)

        threading.Thread(target=leave_with_parent, daemon=True).start()
