"""The report on paper, and what is said where nothing can print."""

import re
import shutil
import zlib

import pytest
from report.browser import CHROMIUM

from vcbench.errors import ProgramError
from vcbench.report import pdf


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here to print with")
def test_pdf__has_many_pages_lying_on_their_side(page_path, tmp_path):
    made = pdf.print_pdf(page_path, tmp_path / "report.pdf")
    content = made.read_bytes()
    assert content.startswith(b"%PDF")
    text = content + b"".join(_inflated(content))
    boxes = [tuple(map(float, box.split()[2:])) for box in re.findall(rb"/MediaBox\s*\[([^\]]*)\]", text)]
    assert boxes
    assert all(width > height for width, height in boxes)
    assert max(int(n) for n in re.findall(rb"/Count (\d+)", text)) >= 15
    assert not page_path.with_name("report.pdf").exists()


def _inflated(content):
    for stream in re.findall(rb"stream\r?\n(.*?)endstream", content, flags=re.DOTALL):
        try:
            yield zlib.decompress(stream)
        except zlib.error:
            continue


def test_pdf__without_a_browser_says_what_to_do(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ProgramError, match="apt-get install chromium"):
        pdf.find_browser()


def test_pdf__of_a_browser_that_does_not_print_is_an_error(page_path, tmp_path):
    with pytest.raises(ProgramError, match=r"`false` did not print .*exit 1"):
        pdf.print_pdf(page_path, tmp_path / "x.pdf", browser="false")
    with pytest.raises(ProgramError, match="did not print"):
        pdf.print_pdf(page_path, tmp_path / "x.pdf", browser="/nowhere/chromium")
    assert not (tmp_path / "x.pdf").exists()
