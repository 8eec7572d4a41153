"""The height of a profile by dense algebra and general optimisers: nothing of `vcbench.inference` or of the kernels.

ℓ is that of MATH §1 on V = Σ θ_j V_j, formed from the data. θ is written in coordinates that no bound limits: SDs of
either sign, correlations sin φ. What a quantity fixes is one of them, or is solved for by the caller.
"""

import numpy as np
from oracle import derivatives, loglik_of
from scipy.optimize import minimize


class Dense:
    """ℓ(θ) of a model that is linear in θ, with blocks of Ω of one or two effects."""

    def __init__(self, model, criterion):
        self.y = model.y - (0.0 if model.offset is None else model.offset)
        self.X, self.criterion = model.X, criterion
        self.Vs = derivatives(model.components, len(self.y))
        self.blocks, at = [], 0
        for c in model.components:
            for block in c.partition:
                assert len(block) <= 2
                self.blocks.append(tuple(range(at, at + (1 if len(block) == 1 else 3))))
                at += len(self.blocks[-1])
        self.blocks.append((at,))
        self.angles = [b[1] for b in self.blocks if len(b) == 3]

    def theta(self, z):
        """θ from the coordinates z, laid out as θ: SD, or (SD_a, φ, SD_b)."""
        theta = np.square(z)
        for b in self.blocks:
            if len(b) == 3:
                theta[b[1]] = abs(z[b[0]] * z[b[2]]) * np.sin(z[b[1]])
        return theta

    def z(self, theta):
        """Coordinates of θ."""
        z = np.sqrt(np.abs(theta))
        for b in self.blocks:
            if len(b) == 3:
                size = z[b[0]] * z[b[2]]
                z[b[1]] = np.arcsin(np.clip(theta[b[1]] / size, -1, 1)) if size > 0 else 0.0
        return z

    def loglik(self, theta, shift=0.0, X=None):
        """ℓ at θ, of y − shift and X."""
        try:
            return loglik_of(self.y - shift, self.X if X is None else X, self.Vs, theta, self.criterion)
        except np.linalg.LinAlgError:
            return -np.inf

    def best(self, theta0, hold=None, value=None, restore=None, shift=0.0, X=None, starts=1):
        """max ℓ over z, coordinate `hold` kept at `value`; `restore(z)` puts z on any other surface.

        BFGS from θ_0; with more `starts` from points around it, and from correlations of ±1 and 0 (the surface is flat
        in their angles), each polished by the simplex method, and the best by simplices until one gains nothing.
        """
        z0 = self.z(np.asarray(theta0, float))
        size = np.maximum(np.abs(z0), 0.3 * abs(z0[-1]))
        size[self.angles] = 1.0
        free = [j for j in range(len(z0)) if j != hold]

        def full(u):
            z = z0.copy()
            z[free] = u * size[free]
            if hold is not None:
                z[hold] = value
            return z if restore is None else restore(z)

        def minus(u):
            z = full(u)
            ell = self.loglik(self.theta(z), shift, X) if np.isfinite(z).all() else -np.inf
            return -ell if np.isfinite(ell) else 1e10

        if not free:
            return -minus(np.zeros(0))
        rng, found = np.random.default_rng(0), []
        start = z0[free] / size[free]
        simplex = {"xatol": 1e-9, "fatol": 1e-11, "maxfev": 4000, "adaptive": len(free) > 3}
        points = [start]
        for _ in range(starts - 1):
            points.append(start * rng.uniform(0.2, 1.6, len(start)) + 0.3 * rng.normal(size=len(start)))
        for angle in (0.0, 1.45, -1.45) if starts > 1 else ():
            points.append(np.where([j in self.angles for j in free], angle, start))
        for u in points:
            out = minimize(minus, u, method="BFGS", options={"gtol": 1e-7})
            if starts > 1 or not np.abs(out.jac).max() < 1e-4:
                out = minimize(minus, out.x, method="Nelder-Mead", options=simplex)
            found.append(out)
        best = min(found, key=lambda out: out.fun)
        gain = np.inf if starts > 1 else 0.0
        while gain > 1e-9:
            again = minimize(minus, best.x, method="Nelder-Mead", options=simplex)
            gain, best = best.fun - again.fun, again
        return -best.fun
