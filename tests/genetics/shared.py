"""The mouse data of the shared folder, unpacked where a test wants them."""

import gzip
import shutil
from pathlib import Path

from references import table

FOLDER = table.shared_folder()
with_data = table.with_data


def mouse_files(to: Path) -> Path:
    """The prefix of hs1940's .bed, .bim and .fam, written to a folder."""
    source = FOLDER / "mouse_plink"
    for ending in ("bed", "bim"):
        with (
            gzip.open(source / f"mouse_hs1940.{ending}.gz") as packed,
            (to / f"mouse_hs1940.{ending}").open("wb") as out,
        ):
            shutil.copyfileobj(packed, out)
    shutil.copy(source / "mouse_hs1940.fam", to / "mouse_hs1940.fam")
    return to / "mouse_hs1940"
