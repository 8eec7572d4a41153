"""Reports rendered from stored rows alone; nothing is fitted here."""

from pathlib import Path

__all__ = ["publish", "render"]


def render(dir: Path | str, out: Path | str | None = None) -> Path:
    """Render the report of a run folder and return the path of its page (see `report.files.render`).

    A folder of calibrations, or one that holds such folders, has a report of its own (`report.sbc_files`), and so have
    runs with mutants (`report.mutants`).
    """
    from vcbench.report.mutants import is_mutants, render_mutants
    from vcbench.report.sbc_report import is_calibration

    if is_mutants(dir):
        return render_mutants(dir, out)
    if is_calibration(dir):
        from vcbench.report.sbc_files import render_sbc

        return render_sbc(dir, out)
    from vcbench.report.files import render as write

    return write(dir, out)


def publish(dir: Path | str, reports_dir: Path | str) -> Path:
    """Write `<reports_dir>/<stem>/` for a forge and return it (see `report.files.publish`)."""
    from vcbench.report.mutants import is_mutants, render_mutants
    from vcbench.report.sbc_report import is_calibration

    if is_mutants(dir):
        return render_mutants(dir, Path(reports_dir) / Path(dir).resolve().name).parent
    if is_calibration(dir):
        from vcbench.report.sbc_files import render_sbc

        return render_sbc(dir, Path(reports_dir) / Path(dir).resolve().name).parent
    from vcbench.report.files import publish as write

    return write(dir, reports_dir)
