"""The formulas of `standardise` in plain double precision, on whole matrices: what the streamed code is held to."""

import numpy as np


def columns(G, standardise="unit", missing="mean"):
    """(W (n, m), s (m,), positions of the m SNPs used) of calls or dosages G (n, p), NaN where missing."""
    G = np.where(np.asarray(G, float) >= 0, np.asarray(G, float), np.nan)
    keep = np.array([len(set(g[~np.isnan(g)])) > 1 for g in G.T])
    G = G[:, keep]
    f = np.nanmean(G, axis=0) / 2
    W = G - 2 * f
    if standardise == "unit":
        W = W / np.sqrt(np.nanmean(W**2, axis=0) if missing == "pairs" else np.nan_to_num(W**2).mean(axis=0))
        s = np.ones(W.shape[1])
    elif standardise == "centred":
        s = np.ones(W.shape[1])
    else:
        alpha = {"vanraden1": 0.0, "vanraden2": -1.0, "gcta": -1.0}.get(standardise)
        alpha = standardise[1] if alpha is None else alpha
        W, s = W * (2 * f * (1 - f)) ** (alpha / 2), (2 * f * (1 - f)) ** (1 + alpha)
    return np.nan_to_num(W), s, np.flatnonzero(keep)


def relationship(G, standardise="unit", missing="mean"):
    """K (n, n)."""
    W, s, keep = columns(G, standardise, missing)
    if missing == "mean":
        return W @ W.T / s.sum()
    called = (np.asarray(G, float)[:, keep] >= 0).astype(float)
    return W @ W.T / ((called * s) @ called.T)
