"""Draws survive the way to disk and back, whole or not at all."""

import numpy as np
import pytest
import xarray as xr

from vcbench.bayes import load, save
from vcbench.errors import DataError, MethodError


@pytest.fixture
def draws(rng):
    import arviz as az

    tree = az.from_dict(
        {
            "posterior": {
                "Subject:var((Intercept))": rng.normal(size=(4, 10)),
                "a÷b:var": rng.normal(size=(4, 10)),
                "beta": rng.normal(size=(4, 10, 2)),
            },
            "sample_stats": {"diverging": rng.random((4, 10)) < 0.1, "n_steps": rng.integers(1, 9, (4, 10))},
        },
        dims={"beta": ["fixed"]},
        coords={"fixed": ["(Intercept)", "größe"]},
    )
    tree.attrs.update(status="FAILED", message="R̂ of `a` is 1.02", khat=np.float64(0.5), n_iter=3, nothing=None)
    return tree


@pytest.mark.parametrize("ending", ["zarr", "nc"])
def test_load__gives_back_what_save_wrote(draws, tmp_path, ending):
    if ending == "nc":
        pytest.importorskip("h5netcdf", reason="no NetCDF backend is installed (extra `netcdf`)")
    path = save(draws, tmp_path / f"draws.{ending}")
    back = load(path)
    for group in ("posterior", "sample_stats"):
        xr.testing.assert_equal(back[group].to_dataset(), draws[group].to_dataset())
        for name, values in draws[group].data_vars.items():
            assert back[group][name].dtype == values.dtype
    assert back.attrs == {"status": "FAILED", "message": "R̂ of `a` is 1.02", "khat": 0.5, "n_iter": 3}
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_save__replaces_only_when_asked(draws, tmp_path):
    path = save(draws, tmp_path / "draws.zarr")
    with pytest.raises(DataError, match=r"exists\. Pass `overwrite=True`"):
        save(draws, path)
    other = draws.copy(deep=True)
    other["posterior"]["beta"][:] = 7.0
    save(other, path, overwrite=True)
    assert (load(path)["posterior"]["beta"] == 7.0).all()
    assert [p.name for p in tmp_path.iterdir()] == ["draws.zarr"]


def test_save__that_fails_leaves_what_was_there_and_nothing_half_written(draws, tmp_path, monkeypatch):
    path = save(draws, tmp_path / "draws.zarr")
    write = xr.DataTree.to_zarr

    def stops_half_way(self, store, *args, **kwargs):
        write(self, store, *args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(xr.DataTree, "to_zarr", stops_half_way)
    with pytest.raises(KeyboardInterrupt):
        save(draws, path, overwrite=True)
    with pytest.raises(KeyboardInterrupt):
        save(draws, tmp_path / "new.zarr")
    assert [p.name for p in tmp_path.iterdir()] == ["draws.zarr"]
    xr.testing.assert_equal(load(path)["posterior"].to_dataset(), draws["posterior"].to_dataset())


def test_save__says_what_it_cannot_write(draws, tmp_path, monkeypatch):
    with pytest.raises(MethodError, match=r"End the name with \.zarr or \.nc"):
        save(draws, tmp_path / "draws.csv")
    with pytest.raises(DataError, match=r"the folder of .* does not exist"):
        save(draws, tmp_path / "nowhere" / "draws.zarr")
    with pytest.raises(DataError, match="does not exist"):
        load(tmp_path / "draws.zarr")
    monkeypatch.setattr("vcbench.bayes.storage.find_spec", lambda name: None)
    with pytest.raises(MethodError, match=r"Install vcbench\[netcdf\], or use \.zarr"):
        save(draws, tmp_path / "draws.nc")
