"""The page on paper: a browser prints its still form, every picture and table without the controls."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from vcbench.errors import ProgramError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
SECONDS = 300
SCRIPT = re.compile(r"<script\b.*?</script>", flags=re.DOTALL)


def find_browser() -> str:
    """The first of BROWSERS on the path. Raises ProgramError where there is none."""
    for name in BROWSERS:
        found = shutil.which(name)
        if found:
            return found
    raise ProgramError(
        "a PDF is printed by Chromium, and no such program is on the path (chromium, google-chrome, msedge). Install"
        " one, e.g. `apt-get install chromium`, or open the page in any browser and print it there."
    )


def print_pdf(page: Path | str, out: Path | str | None = None, browser: str | None = None) -> Path:
    """Print a report's page as A4 on its side; return the path of the PDF (default: beside the page, `report.pdf`).

    Scripts are left out, so that all pictures and tables are printed and not those of one view.

    Raises ProgramError where no browser is installed, or where it does not print.
    """
    page = Path(page).resolve()
    out = page.with_name("report.pdf") if out is None else Path(out).resolve()
    browser = browser or find_browser()
    still = SCRIPT.sub("", page.read_text(encoding="utf-8"))
    with TemporaryDirectory(prefix="vcbench-pdf-") as folder:
        source = Path(folder) / "report.html"
        source.write_text(still, encoding="utf-8")
        made = Path(folder) / "report.pdf"
        command = [
            browser, "--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", f"--user-data-dir={folder}/profile",
            *(["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []),
            "--no-pdf-header-footer", f"--print-to-pdf={made}", source.as_uri(),
        ]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ProgramError(f"`{browser}` did not print {page}: {error}") from error
        if done.returncode or not made.is_file() or not made.read_bytes().startswith(b"%PDF"):
            said = "\n".join(done.stderr.strip().splitlines()[-3:]) or "no message"
            raise ProgramError(f"`{browser}` did not print {page} (exit {done.returncode}): {said}")
        shutil.copyfile(made, out)
    return out
