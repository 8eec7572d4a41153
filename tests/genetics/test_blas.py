"""Which BLAS is at work, and when its kernels are below the processor's."""

import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

from vcbench.genetics import blas
from vcbench.genetics.level3 import sgemm, ssyrk

WIDE = frozenset(("avx", "avx2", "fma", *blas.WIDE))


def test_kernels__are_better_where_the_processor_has_wider_instructions():
    assert blas.best_kernels("Haswell", WIDE) == "SkylakeX"
    assert blas.best_kernels("Zen", WIDE) == "SkylakeX"
    assert blas.best_kernels("Nehalem", frozenset(("avx2", "fma"))) == "Haswell"
    assert blas.best_kernels("Haswell", frozenset(("avx2", "fma"))) == ""
    for kernels in ("SkylakeX", "Cooperlake", "SapphireRapids", "neoversen1", ""):
        assert blas.best_kernels(kernels, WIDE) == ""


def openblas(architecture):
    return [blas.Blas("openblas", "0.3.31", 2, architecture, "lib.so")]


@pytest.fixture
def wide(monkeypatch):
    """A processor with AVX-512 and OpenBLAS on AVX2 kernels."""
    monkeypatch.setattr(blas, "processor", lambda: WIDE)
    monkeypatch.setattr(blas, "loaded", lambda: openblas("Haswell"))
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    blas._warn_once.cache_clear()


def test_slow_kernels__are_warned_of_once_with_the_remedy_and_only_for_large_work(wide):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        blas.warn_if_slow(1e9)
        assert seen == []
        blas.warn_if_slow(1e13)
        blas.warn_if_slow(1e13)
    assert [str(w.message) for w in seen] == [
        "OpenBLAS runs its Haswell kernels on a processor that has wider ones: matrix products take about twice the "
        "time they need. Start Python with OPENBLAS_CORETYPE=SkylakeX in the environment."
    ]
    assert seen[0].category is blas.SlowBlas
    assert blas.coretype() == "SkylakeX"
    assert "OPENBLAS_CORETYPE=SkylakeX is faster" in blas.describe()


def test_slow_kernels__that_the_environment_asked_for_are_said_to_be(wide, monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    with pytest.warns(blas.SlowBlas, match="because OPENBLAS_CORETYPE=Haswell is set"):
        blas.warn_if_slow(1e13)


def test_right_kernels__are_not_warned_of(wide, monkeypatch):
    monkeypatch.setattr(blas, "loaded", lambda: openblas("SkylakeX"))
    blas.warn_if_slow(1e13)
    assert blas.coretype() == ""


def test_loaded__finds_the_blas_of_this_process():
    found = blas.loaded()
    assert found
    assert all(one.threads >= 1 and one.vendor for one in found)


@pytest.mark.skipif(not blas.processor().issuperset(blas.WIDE), reason="the processor has no AVX-512")
@pytest.mark.skipif(all(one.vendor != "openblas" for one in blas.loaded()), reason="BLAS is not OpenBLAS")
def test_the_remedy__works_in_a_new_process():
    def kernels(core):
        code = "from vcbench.genetics import blas; print({one.architecture for one in blas.loaded()}, blas.coretype())"
        env = {**os.environ, "OPENBLAS_CORETYPE": core}
        return subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True).stdout

    assert kernels("Haswell") == "{'Haswell'} SkylakeX\n"
    assert kernels("SkylakeX") == "{'SkylakeX'} \n"


def test_products__are_written_in_place_into_any_tile(rng):
    W = np.asfortranarray(rng.normal(size=(50, 30)).astype(np.float32))
    C = np.full((50, 50), 7, np.float32, order="F")
    ssyrk(W[10:30], C[10:30, 10:30], add=False)
    sgemm(W[30:45], W[10:30, :], C[30:45, 10:30], add=True)
    exact = W.astype(float) @ W.T.astype(float)
    lower = np.tril(np.ones((20, 20), bool))
    assert np.abs(C[10:30, 10:30] - exact[10:30, 10:30])[lower].max() < 1e-5
    assert np.abs(C[30:45, 10:30] - exact[30:45, 10:30] - 7).max() < 2e-5
    assert (C[10:30, 10:30][~lower] == 7).all()
    assert (C[:10] == 7).all()
    with pytest.raises(ValueError, match="float32 in Fortran order"):
        ssyrk(np.zeros((5, 4), np.float32), C[:5, :5], add=False)
