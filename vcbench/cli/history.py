"""`vcbench history`: one page on many runs."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def history(
    *sources: Annotated[
        Path, Parameter(help="Run folders, folders that hold run folders, or the JSON file of an earlier history.")
    ],
    out: Annotated[Path, Parameter(help="The page. Its data go beside it, as .json.")] = Path("history.html"),
) -> int:
    """Show how checks, iterations and cost moved from run to run, and print the page's path.

    Beside the page goes a small JSON file with all it shows. Name it among the sources next time, and the runs' own
    folders need not be kept.
    """
    from vcbench import __version__
    from vcbench.cli.verdicts import write_whole
    from vcbench.errors import StoreError
    from vcbench.report.history import render_history
    from vcbench.report.nights import history_bytes, read_records

    records = read_records(sources)
    if not records:
        raise StoreError("there is nothing to show: name run folders, or the JSON file of an earlier history.")
    page = render_history(records, __version__)
    write_whole(out.with_suffix(".json"), history_bytes(records))
    write_whole(out, page.encode())
    print(out)
    return 0
