"""P(Q > 0) of a weighted sum of χ² variables, Q = Σ_r c_r χ²_{h_r}, by numerical inversion (Imhof 1961).

    P(Q > 0) = ½ + (1/π) ∫_0^∞ sin θ(u) / (u ρ(u)) du
    θ(u) = ½ Σ_r h_r arctan(c_r u),     ρ(u) = Π_r (1 + c_r² u²)^(h_r/4)

J. P. Imhof, "Computing the distribution of quadratic forms in normal variables", Biometrika 48 (1961) 419-426. At 0 the
integrand does not oscillate at infinity, so that ordinary quadrature is enough.
"""

import numpy as np


def positive_probability(coefficients: np.ndarray, df: np.ndarray) -> float:
    """P(Q > 0), c (r,) of either sign, h (r,) degrees of freedom; absolute error below 1e-8."""
    from scipy.integrate import quad

    c, h = np.asarray(coefficients, float), np.asarray(df, float)
    c, h = c[(c != 0) & (h > 0)], h[(c != 0) & (h > 0)]
    if not (c > 0).any() or not (c < 0).any():
        return float((c > 0).any())
    c = c / np.sqrt((h * c**2).sum())  # so that the integrand falls off within a few units of u

    def integrand(u: float) -> float:
        cu = c * u
        return float(np.sin(0.5 * (h @ np.arctan(cu))) * np.exp(-0.25 * (h @ np.log1p(cu * cu))) / u)

    parts = [quad(integrand, a, b, epsabs=1e-10, limit=500)[0] for a, b in ((0.0, 8.0), (8.0, np.inf))]
    return float(np.clip(0.5 + sum(parts) / np.pi, 0.0, 1.0))
