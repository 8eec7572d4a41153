"""One synthetic run and its report, made once."""

from pathlib import Path

import pytest
from report.synthetic import write_run

from vcbench.report import evidence, findings, publish, render


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory) -> Path:
    return write_run(tmp_path_factory.mktemp("run") / "quickstart", replicates=40)


@pytest.fixture(scope="session")
def found(run_folder):
    return findings.find(evidence.load(run_folder))


@pytest.fixture(scope="session")
def page_path(run_folder) -> Path:
    return render(run_folder)


@pytest.fixture(scope="session")
def published(run_folder, tmp_path_factory) -> Path:
    return publish(run_folder, tmp_path_factory.mktemp("reports"))
