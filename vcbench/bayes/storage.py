"""Draws on disk: an ArviZ DataTree to Zarr (a folder `*.zarr`) or NetCDF (`*.nc`), whole or not at all.

Written under a temporary name beside the target and renamed when complete, so that a run that is killed leaves nothing
that could be read for a result.
"""

import os
import shutil
import uuid
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.errors import DataError, MethodError

if TYPE_CHECKING:
    import xarray as xr

NETCDF = ("h5netcdf", "netCDF4")  # packages that can write groups, the first that is there is taken


def save(draws: "xr.DataTree", path: str | Path, overwrite: bool = False) -> Path:
    """Write `draws` (of `sample`, `approximate`, `prior_predictive`) to `path`, and return it.

    The end of the name says the form: `.zarr`, or `.nc`, which needs the extra `netcdf`. Raises DataError where
    something is there already (unless `overwrite`) or the folder is not, MethodError for another ending and a missing
    package.
    """
    path = Path(path)
    engine = _engine(path)
    if not path.parent.is_dir():
        raise DataError(f"the folder of `{path}` does not exist. Create it first.")
    if path.exists() and not overwrite:
        raise DataError(f"`{path}` exists. Pass `overwrite=True` to replace it.")
    tree = draws.copy()
    for node in tree.subtree:
        node.attrs = {k: _plain(v) for k, v in node.attrs.items() if v is not None}
    tag = uuid.uuid4().hex[:8]
    new, old = (path.with_name(f".{path.name}.{tag}.{word}") for word in ("part", "old"))
    try:
        if engine == "zarr":
            with (
                warnings.catch_warnings()
            ):  # Zarr says of strings and of consolidated metadata that their form may change
                warnings.filterwarnings("ignore", category=UserWarning, module="zarr")
                warnings.filterwarnings("ignore", message=".*Zarr", category=Warning)
                tree.to_zarr(new)
        else:
            tree.to_netcdf(new, engine=engine)  # type: ignore[call-overload]
        if path.exists():
            os.replace(path, old)
        os.replace(new, path)
    finally:
        for rest in (new, old):
            _remove(rest)
    return path


def load(path: str | Path) -> "xr.DataTree":
    """The DataTree that `save` wrote, in memory. Raises DataError where there is none."""
    import xarray as xr

    path = Path(path)
    engine = _engine(path)
    if not path.exists():
        raise DataError(f"`{path}` does not exist.")
    with xr.open_datatree(path, engine=engine) as tree:  # type: ignore[arg-type]
        return tree.load()


def _engine(path: Path) -> str:
    if path.suffix == ".zarr":
        return "zarr"
    if path.suffix != ".nc":
        raise MethodError(f"`{path.name}` does not say its form. End the name with .zarr or .nc.")
    for package in NETCDF:
        if find_spec(package) is not None:
            return package.lower()
    raise MethodError(
        f"`{path.name}`: no package that writes NetCDF is installed. Install vcbench[netcdf], or use .zarr."
    )


def _plain(value: Any) -> Any:
    """An attribute as both formats keep it."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, bool):
        return int(value)
    return value if isinstance(value, str | int | float | list | tuple | np.ndarray) else str(value)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
