"""The report on paper, and what is said where nothing can print."""

import re
import shutil
import zlib

import pytest
from report.browser import CHROMIUM

from vcbench.cli.app import run
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


def test_command__says_so_before_any_work_where_nothing_prints(run_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert run(["report", str(run_folder), "--out", str(tmp_path / "out"), "--pdf"]) == 2
    assert "a PDF is printed by Chromium" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_command__prints_the_paths_of_page_and_pdf(page_path, monkeypatch, capsys):
    monkeypatch.setattr("vcbench.report.render", lambda folder, out: page_path)
    monkeypatch.setattr(pdf, "find_browser", lambda: "chromium")
    monkeypatch.setattr(pdf, "print_pdf", lambda page: page.with_name("report.pdf"))
    assert run(["report", str(page_path.parent.parent), "--pdf"]) == 0
    assert capsys.readouterr().out.split() == [str(page_path), str(page_path.with_name("report.pdf"))]
