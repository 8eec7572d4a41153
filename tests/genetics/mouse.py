"""Heterogeneous-stock mice: 1940 animals, 12,226 markers, six phenotypes, as GEMMA's examples have them (hs1940).

`gemma_K` is the centred matrix of `gemma -g mouse_hs1940.geno.txt.gz -p mouse_hs1940.pheno.txt -gk 1`: mean genotypes,
markers whose minor allele frequency among the animals with phenotype 1 is 0.01 or more (10,768), all animals.
"""

import gzip
from functools import cache

import numpy as np
import pytest
from references import table

FOLDER = table.shared_folder()


def need_shared() -> None:
    """Skip the test where the shared data are not here."""
    if FOLDER is None or not (FOLDER / "mouse_hs1940_geno.csv.gz").is_file():
        pytest.skip("the shared data are not here (VCBENCH_DATA)")


@cache
def phenotypes() -> np.ndarray:
    """(1940, 6), NaN where missing; the first is CD8, the sixth MCH."""
    import pandas as pd

    need_shared()
    return pd.read_csv(FOLDER / "mouse_hs1940_pheno.csv").iloc[:, 1:].to_numpy(float)


@cache
def dosages() -> np.ndarray:
    """Mean genotypes (12226, 1940), float64."""
    from pyarrow import csv

    need_shared()
    with gzip.open(FOLDER / "mouse_hs1940_geno.csv.gz") as file:
        read = csv.read_csv(file)
    return np.array([read.column(j).to_numpy() for j in range(3, read.num_columns)], float).T


@cache
def gemma_K() -> np.ndarray:
    """K (1940, 1940)."""
    G = dosages()
    frequency = G[:, np.isfinite(phenotypes()[:, 0])].mean(axis=1) / 2
    W = G[np.minimum(frequency, 1 - frequency) >= 0.01]
    W = W - W.mean(axis=1, keepdims=True)
    return W.T @ W / len(W)
