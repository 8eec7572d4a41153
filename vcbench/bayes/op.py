"""PyTensor Ops on a model's own kernel and maps, for PyTensor's Numba linker (nutpie's, and PyMC's default) and Python.

`KernelLoglik` is ℓ and its score in one node: the gradient of its first output is its second, so that a compiled logp
and dlogp factorise V once. Compiled code calls back into Python for it (Numba's object mode), and holds the GIL: chains
in threads take turns. CPU milliseconds of one (ℓ, gradient) under REML, one core, one BLAS thread:

| kernel | model | ms |
| --- | --- | --- |
| grouped | AR(1) and a random intercept, 100 units of 6 | 0.19 |
| grouped | unstructured, Toeplitz, 100 units of 6 | 0.65, 0.61 |
| grouped | effects with compound symmetry, 100 levels of 4 effects | 0.11 |
| crossed | 200 + 50 levels, n = 2000 | 0.33 |
| low_rank | q = 150, n = 300 | 0.66 |
| dense | AR(1) ⊗ AR(1) + nugget, n = 100, 300 | 0.50, 4.3 |
| dense | two relationship matrices, n = 400 | 3.6 |
| sparse | pedigree of 1000, n = 1000 | 3.5 |

A draw of NUTS takes four to eight of them. Models with sufficient statistics do not come here: theirs cost microseconds
(`by_kernel.likelihood_of`).

This module imports PyTensor and Numba; it is imported by what builds a `pm.Model`.
"""

from typing import Any

import numba
import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import DisconnectedType, grad_not_implemented
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch.basic import numba_funcify, numba_njit

from vcbench.bayes.by_kernel import ByKernel
from vcbench.model.working import Working


class KernelLoglik(Op):
    """(w (k,), γ (d,), y (n,)) ↦ (ℓ, ∂ℓ/∂w, ∂ℓ/∂γ): ℓ_REML(w), or ℓ_ML(γ, w), of `by_kernel.ByKernel`."""

    def __init__(self, likelihood: ByKernel, criterion: str) -> None:
        self.likelihood, self.criterion = likelihood, criterion

    def make_node(self, *inputs: Any) -> Apply:
        inputs = tuple(pt.as_tensor_variable(v).astype("float64") for v in inputs)
        return Apply(self, list(inputs), [pt.dscalar(), pt.dvector(), pt.dvector()])

    def perform(self, node: Apply, inputs: Any, output_storage: Any) -> None:
        for cell, value in zip(output_storage, self.of(*inputs), strict=True):
            cell[0] = value

    def of(self, w: np.ndarray, gamma: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The three outputs as arrays of their own."""
        loglik, score, own = self.likelihood.answer(w, gamma, y, self.criterion)
        return np.array(loglik), score.copy(), own.copy()

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        kept = self.criterion == "ml"
        return [[True, True, kept], [kept, kept, kept], [False, False, False]]

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Any]:
        w, gamma, y = inputs
        of_loglik, of_score, of_own = cotangents
        kept = self.criterion == "ml"
        second = not isinstance(of_score.type, DisconnectedType) or not isinstance(of_own.type, DisconnectedType)
        if second and kept:
            why = "second derivatives of ℓ_ML(γ, w) are not to be had from a kernel"
            return [grad_not_implemented(self, i, v, why) for i, v in enumerate((w, gamma))] + [DisconnectedType()()]
        to_w: Any = 0.0 if isinstance(of_loglik.type, DisconnectedType) else of_loglik * outputs[1]
        if second:
            to_w = to_w + (KernelHessian(self.likelihood)(w, y) * of_score).sum(axis=1)
        return [to_w, of_loglik * outputs[2] if kept else DisconnectedType()(), DisconnectedType()()]


class KernelHessian(Op):
    """(w, y) ↦ ∂²ℓ_REML/∂w∂wᵀ (k, k), minus the observed information: for Laplace approximations."""

    def __init__(self, likelihood: ByKernel) -> None:
        self.likelihood = likelihood

    def make_node(self, *inputs: Any) -> Apply:
        return Apply(self, [pt.as_tensor_variable(v) for v in inputs], [pt.dmatrix()])

    def perform(self, node: Apply, inputs: Any, output_storage: Any) -> None:
        (output_storage[0][0],) = self.of(*inputs)

    def of(self, w: np.ndarray, y: np.ndarray) -> tuple[np.ndarray]:
        """The one output."""
        return (np.ascontiguousarray(self.likelihood.hessian(w, y)),)


class NaturalTheta(Op):
    """w ↦ (θ (p,), ∂θ/∂w (p, k)): natural parameters of a structured model."""

    def __init__(self, working: Working) -> None:
        self.working = working

    def make_node(self, *inputs: Any) -> Apply:
        return Apply(self, [pt.as_tensor_variable(v) for v in inputs], [pt.dvector(), pt.dmatrix()])

    def perform(self, node: Apply, inputs: Any, output_storage: Any) -> None:
        for cell, value in zip(output_storage, self.of(*inputs), strict=True):
            cell[0] = value

    def of(self, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Both outputs."""
        theta, D = self.working.theta_jacobian(np.array(w))
        return np.ascontiguousarray(theta), np.ascontiguousarray(D)

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Any]:
        if not isinstance(cotangents[1].type, DisconnectedType):
            return [grad_not_implemented(self, 0, inputs[0], "second derivatives of θ(w)")]
        return [(outputs[1] * cotangents[0][:, None]).sum(axis=0)]


class Tau(NaturalTheta):
    """w ↦ (τ, ∂τ/∂w): the entries of every Ω (`model.working`)."""

    def of(self, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Both outputs."""
        tau, J = self.working.jacobian(np.array(w))
        return np.ascontiguousarray(tau), np.ascontiguousarray(J)


@numba_funcify.register(KernelLoglik)
@numba_funcify.register(KernelHessian)
@numba_funcify.register(NaturalTheta)
def _in_object_mode(op: Any, node: Any = None, **kwargs: Any) -> Any:
    """Compiled code that calls `op.of`."""
    of = op.of
    kinds = [numba.types.Array(numba.float64, out.type.ndim, "C") for out in node.outputs]
    if len(kinds) == 1:
        single = kinds[0]

        @numba_njit
        def one(*inputs):
            with numba.objmode(out=single):
                out = of(*inputs)[0]
            return out

        return one
    together = numba.types.Tuple(kinds)

    @numba_njit
    def several(*inputs):
        with numba.objmode(out=together):
            out = of(*inputs)
        return out

    return several
