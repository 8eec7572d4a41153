"""Two sets of predictors with random effects and noise in PyMC, the effects integrated out.

    y = Xβ + Z_1 u_1 + Z_2 u_2 + e,    u_k ~ N(0, σ_k² I),  e ~ N(0, σ_e² I)

V = σ_1² Z_1Z_1ᵀ + σ_2² Z_2Z_2ᵀ + σ_e² I. When Z = [Z_1 Z_2] has q < n columns, n − q directions see no random effect:
with Z = QR and Q completed to an orthogonal matrix (Q Q_⊥), the rotated response has two independent parts, and its
density is that of y, constants included:

    Qᵀy ~ N(QᵀXβ, σ_1² R_1R_1ᵀ + σ_2² R_2R_2ᵀ + σ_e² I_q),    Q_⊥ᵀy ~ N(Q_⊥ᵀXβ, σ_e² I),    R = (R_1 R_2).

The factor is q × q instead of n × n; with q ≥ 500 even that is too much at every step of NUTS (no rotation diagonalises
both matrices at once): use quadrature, or a likelihood method.

    with build(y, X, Z1, Z2):
        trace = pm.sample(nuts_sampler="nutpie")
"""

import numpy as np
import pymc as pm


def build(y, X, Z1, Z2) -> pm.Model:
    """The model for y (n,), X (n, d), Z1 (n, q_1), Z2 (n, q_2) with q_1 + q_2 < n.

    Priors: β flat; σ_k half-normal with scale sd(y)/√(mean squared row norm of Z_k), σ_e with scale sd(y).
    """
    y, X, Z1, Z2 = (np.asarray(a, float) for a in (y, X, Z1, Z2))
    n, q = len(y), Z1.shape[1] + Z2.shape[1]
    if q >= n:
        raise ValueError(f"Z1 and Z2 have {q} columns together; the rotation needs fewer than n = {n}")
    sd_y = float(np.std(y, ddof=1))
    Q, R = np.linalg.qr(np.hstack([Z1, Z2]), mode="complete")
    R1, R2 = R[:q, : Z1.shape[1]], R[:q, Z1.shape[1] :]
    S1, S2 = R1 @ R1.T, R2 @ R2.T
    turned_y, turned_X = Q.T @ y, Q.T @ X

    with pm.Model() as model:
        beta = pm.Flat("beta", shape=X.shape[1], initval=np.linalg.lstsq(X, y, rcond=None)[0])
        sigma_1 = pm.HalfNormal("sigma_1", sigma=sd_y / np.sqrt((Z1**2).sum() / n))
        sigma_2 = pm.HalfNormal("sigma_2", sigma=sd_y / np.sqrt((Z2**2).sum() / n))
        sigma_e = pm.HalfNormal("sigma_e", sigma=sd_y)
        mean = pm.math.dot(turned_X, beta)
        cov = sigma_1**2 * S1 + sigma_2**2 * S2 + sigma_e**2 * np.eye(q)
        pm.MvNormal("inside", mu=mean[:q], cov=cov, observed=turned_y[:q])
        pm.Normal("outside", mu=mean[q:], sigma=sigma_e, observed=turned_y[q:])
    return model
