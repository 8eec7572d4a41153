"""What the user points at, made a model: a card, or a data file with a formula."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcbench.errors import DataError, SpecError

if TYPE_CHECKING:
    from vcbench.model.model import Model

READERS = {".csv": ",", ".tsv": "\t", ".txt": None}


@dataclass(frozen=True, slots=True)
class Asked:
    """The model asked for, and what its card says of fitting it (None without a card)."""

    model: "Model"
    criterion: str | None = None
    priors: Any = None


def read_model(
    card: str | None, data: Path | None, formula: str | None, residual: str | None, cov: Sequence[str] = ()
) -> Asked:
    """The model of a card, or of a data file and a formula.

    Raises SpecError where neither or both of a card and a data file with its formula are named.
    """
    if (card is None) == (data is None and formula is None):
        raise SpecError("name either a card, or a data file and a formula: --data FILE --formula 'y ~ x + (1 | g)'.")
    if card is not None:
        if residual is not None or cov:
            option = "--residual" if residual is not None else "--cov"
            raise SpecError(f"{option} belongs to --data and --formula; a card says its own.")
        from vcbench.cards import load_card

        known = load_card(card)
        return Asked(known.model(), known.criterion, known.priors)
    if data is None or formula is None:
        absent = "--formula" if formula is None else "--data"
        raise SpecError(f"{absent} is missing: a model needs both a data file and a formula.")
    from vcbench import Model

    return Asked(Model.from_formula(formula, read_frame(data), residual=residual, cov=_structures(cov)))


def _structures(cov: Sequence[str]) -> dict[str, str]:
    """`--cov GROUP=STRUCTURE` as a mapping."""
    out = {}
    for text in cov:
        group, sign, structure = text.partition("=")
        if not (group and sign and structure):
            raise SpecError(f"--cov is `{text}`; write GROUP=STRUCTURE, e.g. --cov Subject=ar1.")
        out[group.strip()] = structure.strip()
    return out


def read_frame(path: Path) -> Any:
    """A data frame from a .csv, .tsv, .txt (white space) or .parquet file. Raises DataError."""
    import pandas as pd

    if not path.is_file():
        raise DataError(f"there is no data file {path}.")
    suffix = path.suffix.lower()
    if suffix != ".parquet" and suffix not in READERS:
        raise DataError(
            f"{path}: files ending in {suffix or 'nothing'} are not read. Use .csv, .tsv, .txt or .parquet."
        )
    try:
        if suffix == ".parquet":
            return pd.read_parquet(path)
        return pd.read_csv(path, sep=READERS[suffix] or r"\s+")
    except (ValueError, OSError, pd.errors.ParserError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from error
