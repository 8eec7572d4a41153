"""Marginal densities of an exact posterior, each made when it is first asked for.

p(u_e) integrates over the ratios at fixed u_e. p(u_k) integrates over the scale t = u_e at v_k = u_k − t, where the
density is narrow in t, however wide it is in v_k; D and log q are read between the nodes of v_k by a quintic spline.
Nodes are doubled until no value moves by more than 1e-8 of the peak.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.interpolate import make_interp_spline

from vcbench.bayes.density import DEPTH, TOLERANCE, Density, Grid, Squeeze, cell, halve
from vcbench.bayes.derived import Derived
from vcbench.bayes.posterior import Marginal, Mixture

CHUNK = 1_000_000  # density values in flight
NODES = 257  # of the axis a spline runs along
MOST = 2049  # nodes of a marginal density


@dataclass(frozen=True, slots=True, eq=False)
class Margins:
    """The marginals by name. z, squeezes: the axes that quadrature ended with; beta: those of the coefficients."""

    density: Density
    grid: Grid
    squeezes: list[Squeeze]
    z: list[np.ndarray]
    s: np.ndarray
    names: tuple[str, ...]
    beta: dict[str, Mixture]
    made: dict[str, Any] = field(default_factory=dict)

    def __iter__(self) -> Any:
        return iter((*self.names, *self.beta))

    def __contains__(self, name: object) -> bool:
        return name in self.names or name in self.beta

    def __getitem__(self, name: str) -> Any:
        if name in self.beta:
            return self.beta[name]
        if name not in self.made:
            j = self.names.index(name)
            k = self.density.ratios.own_axis(j)
            if k is None:
                self.made[name] = self.derive(lambda theta: theta[j], name)
            else:
                self.made[name] = self._residual() if k == len(self.z) else self._component(k)
        return self.made[name]

    def derive(self, g: Callable[[np.ndarray], np.ndarray], name: str) -> Derived:
        """The posterior of g(θ), with θ (p, …) and the answer (…)."""
        return Derived.of(self.fine, self.squeezes, self.z, self.s, self.grid.log_z, g, name)

    @property
    def fine(self) -> Density:
        """The density on finer grids than quadrature needed."""
        if "fine" not in self.made:
            weight = np.exp(self.grid.F + self.grid.slope - self.grid.log_z).sum(axis=-1)
            self.made["fine"] = replace(self.density, ratios=self.density.ratios.fine(self.z, self.squeezes, weight))
        return self.made["fine"]

    def _residual(self) -> Marginal:
        density = self.fine
        near = np.broadcast_to(self.grid.t, self.grid.F.shape)[self._near()]
        z = list(self.z)
        while True:
            axes = [q.u(x) for q, x in zip(self.squeezes, z, strict=True)]
            D, q, *_ = density.ratios.grid(axes)
            mesh = [m.ravel() for m in np.meshgrid(*axes, indexing="ij")] if axes else []
            weight = cell(z, np.array([0.0, 1.0])) * self._slopes(z)

            def at(t: np.ndarray, D=D, q=q, mesh=mesh, weight=weight) -> np.ndarray:
                """p (t, v…)."""
                v = [m[None, :] for m in mesh]
                F = density.at(D.ravel()[None, :], q.ravel()[None, :], v, t[:, None]) - self.grid.log_z
                return (np.exp(F) * weight.ravel()).reshape(len(t), *D.shape)

            t = np.linspace(near.min(), near.max(), 65)
            full = at(t)
            rough = []
            for j in range(len(z)):
                thin = 2 * np.take(full, range(0, full.shape[j + 1], 2), axis=j + 1)
                rough.append(_apart(_total(full), _total(thin)) > TOLERANCE and len(z[j]) < MOST)
            if not any(rough):
                return _doubled(lambda nodes: _total(at(nodes)), Squeeze(), near.min(), near.max(), D.size)
            z = [halve(x) if r else x for x, r in zip(z, rough, strict=True)]

    def _component(self, k: int) -> Marginal:
        density = self.fine
        squeeze, others = self.squeezes[k], [j for j in range(len(self.z)) if j != k]
        z = list(self.z)
        while len(z[k]) < (NODES // 2 if density.ratios.dear(k) else NODES):
            z[k] = halve(z[k])
        axes = [q.u(x) for q, x in zip(self.squeezes, z, strict=True)]
        D, q, *_ = density.ratios.grid(axes)
        table = np.moveaxis(np.stack([D, np.log(q)], axis=-1), k, 0).reshape(len(z[k]), -1, 2)
        spline = make_interp_spline(z[k], table, k=5)
        v_others = [axes[j] for j in others]
        weight = cell([z[j] for j in others], np.array([0.0, 1.0])) * self._slopes(z, others).ravel()
        top = float(axes[k][-1])
        near = self._near()
        t = np.broadcast_to(self.grid.t, self.grid.F.shape)[near]
        low, high = float(t.min()), float(t.max())
        shape = [-1 if i == k else 1 for i in range(len(z) + 1)]
        u = np.broadcast_to(self.squeezes[k].u(self.z[k]).reshape(shape) + self.grid.t, self.grid.F.shape)[near]
        middle = float(np.broadcast_to(self.grid.t, self.grid.F.shape).ravel()[self.grid.F.argmax()])
        own = Squeeze(squeeze.a + middle, squeeze.w) if squeeze.w else Squeeze()

        def at(x: np.ndarray, nodes: np.ndarray) -> np.ndarray:
            """p (x) with the scale summed over `nodes`."""
            out = np.empty((2, len(x)))
            step = max(1, CHUNK // (len(nodes) * len(weight)))
            h = nodes[1] - nodes[0]
            for first in range(0, len(x), step):
                part = slice(first, first + step)
                v = x[part, None] - nodes
                read = spline(np.clip(squeeze.z(v), z[k][0], z[k][-1]))  # below the box γ_k is 0: nothing changes
                v_all: list[np.ndarray] = [v_j[None, None, :] for v_j in v_others]
                v_all.insert(k, v[..., None])
                with np.errstate(over="ignore"):
                    F = density.at(read[..., 0], np.exp(read[..., 1]), v_all, nodes[None, :, None])
                    p = (np.exp(F - self.grid.log_z) @ weight) * h
                p[v > top] = 0.0
                out[0, part], out[1, part] = p.sum(axis=1), 2 * p[:, ::2].sum(axis=1)
            return out

        nodes = np.linspace(low, high, 65)
        trial = own.u(np.linspace(own.z(u.min()), own.z(u.max()), 33))
        while len(nodes) < MOST:
            fine, thin = at(trial, nodes)
            if _apart(fine, thin) < TOLERANCE:
                break
            nodes = halve(nodes)
        return _doubled(lambda x: at(x, nodes)[0], own, u.min(), u.max(), 1)

    def _near(self) -> np.ndarray:
        return self.grid.F.max() - DEPTH < self.grid.F

    def _slopes(self, z: list[np.ndarray], which: list[int] | None = None) -> np.ndarray:
        out = np.ones(())
        for j in range(len(z)) if which is None else which:
            out = out[..., None] * self.squeezes[j].slope(z[j])
        return out


def _doubled(f: Callable[[np.ndarray], np.ndarray], squeeze: Squeeze, low: float, high: float, width: int) -> Marginal:
    """f on an even grid of z from u = low to high, doubled until its mass, even and odd nodes apart, is settled."""
    z = np.linspace(float(squeeze.z(low)), float(squeeze.z(high)), 65)
    step = max(1, CHUNK // width)

    def values(z: np.ndarray) -> np.ndarray:
        u = squeeze.u(z)
        return np.concatenate([f(u[i : i + step]) for i in range(0, len(u), step)]) * squeeze.slope(z)

    p = values(z)
    while True:
        new = halve(z)
        q = np.empty(len(new))
        q[::2], q[1::2] = p, values(new[1::2])
        h = new[1] - new[0]
        guess = np.sinc((new[1::2, None] - z) / (2 * h)) @ p
        if _apart(q[1::2], guess) < TOLERANCE or len(new) > MOST:
            return Marginal(new, q / (q.sum() * h), squeeze)
        z, p = new, q


def _total(p: np.ndarray) -> np.ndarray:
    return p.reshape(len(p), -1).sum(axis=1)


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference relative to the largest value."""
    return float(np.abs(a - b).max() / np.abs(a).max())
