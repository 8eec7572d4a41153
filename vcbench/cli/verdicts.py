"""Verdicts as exit codes, JUnit XML, and annotations of GitHub Actions."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from vcbench.errors import StoreError

Verdict = dict[str, Any]  # as `vcbench.study.verdicts`
MOST = 10  # annotations: GitHub shows no more of a step
FORBIDDEN = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML 1.0


def exit_code(verdicts: Sequence[Verdict], inconclusive: str = "fail") -> int:
    """0 if nothing falls short, 1 for a FAIL, 3 for an INCONCLUSIVE (0 where `inconclusive` is "ok")."""
    words = {verdict["verdict"] for verdict in verdicts}
    if "FAIL" in words:
        return 1
    return 3 if "INCONCLUSIVE" in words and inconclusive != "ok" else 0


def junit(verdicts: Sequence[Verdict], inconclusive: str = "fail") -> bytes:
    """JUnit XML: a suite a target, a case a check. SKIPPED is skipped; INCONCLUSIVE is a failure of that type, or
    skipped where `inconclusive` is "ok"."""
    root = ElementTree.Element("testsuites", name="vcbench")
    for target in dict.fromkeys(verdict["target"] for verdict in verdicts):
        of_it = [verdict for verdict in verdicts if verdict["target"] == target]
        suite = ElementTree.SubElement(root, "testsuite", name=_clean(target))
        for verdict in of_it:
            case = ElementTree.SubElement(suite, "testcase", classname=_clean(target), name=_clean(verdict["check"]))
            word, detail = verdict["verdict"], _clean(verdict["detail"])
            if word == "FAIL" or (word == "INCONCLUSIVE" and inconclusive != "ok"):
                ElementTree.SubElement(case, "failure", type=word, message=detail).text = detail
            elif word != "PASS":
                ElementTree.SubElement(case, "skipped", message=f"{word}: {detail}")
            else:
                ElementTree.SubElement(case, "system-out").text = detail
        _count(suite, suite.iter("testcase"))
    _count(root, root.iter("testcase"))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"


def _count(element: ElementTree.Element, cases: Any) -> None:
    found = list(cases)
    for name, tag in (("failures", "failure"), ("skipped", "skipped")):
        element.set(name, str(sum(case.find(tag) is not None for case in found)))
    element.set("tests", str(len(found)))
    element.set("errors", "0")


def _clean(text: str) -> str:
    return FORBIDDEN.sub("�", text)


def annotating(asked: bool) -> bool:
    """True where annotations are wanted: asked for, or in a step of GitHub Actions."""
    return asked or os.environ.get("GITHUB_ACTIONS") == "true"


def annotations(verdicts: Sequence[Verdict]) -> list[str]:
    """Workflow commands of GitHub Actions, ten at most, worst first: a FAIL is an error, an INCONCLUSIVE a warning."""
    short = _short(verdicts)
    lines = []
    for verdict in short[:MOST]:
        level = "error" if verdict["verdict"] == "FAIL" else "warning"
        properties = f"title={_property(verdict['verdict'] + ' ' + verdict['target'])}"
        if "file" in verdict:
            path = Path(verdict["file"])
            inside = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
            properties += f",file={_property(inside.as_posix())}"
        lines.append(f"::{level} {properties}::{_data(verdict['check'] + ': ' + verdict['detail'])}")
    if len(short) > MOST:
        lines.append(f"::notice title=vcbench::… and {len(short) - MOST} more that fall short")
    return lines


def step_summary(verdicts: Sequence[Verdict]) -> str:
    """Markdown for the summary of a step: the counts, and what fell short, worst first."""
    counts = Counter(verdict["verdict"] for verdict in verdicts)
    order = ("PASS", "FAIL", "INCONCLUSIVE", "SKIPPED")
    lines = ["**vcbench check:** " + ", ".join(f"{counts[w]} {w}" for w in order if counts[w]), ""]
    if short := _short(verdicts):
        lines += ["| verdict | target | check | |", "| --- | --- | --- | --- |"]
        for v in short[:MOST]:
            cells = (str(v[key]).replace("|", "\\|").replace("\n", " ") for key in ("target", "check", "detail"))
            lines.append(f"| {v['verdict']} | {' | '.join(cells)} |")
        if len(short) > MOST:
            lines.append(f"\n… and {len(short) - MOST} more")
    return "\n".join(lines) + "\n"


def _short(verdicts: Sequence[Verdict]) -> list[Verdict]:
    found = [verdict for verdict in verdicts if verdict["verdict"] in ("FAIL", "INCONCLUSIVE")]
    return sorted(found, key=lambda verdict: verdict["verdict"] != "FAIL")


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def write_whole(path: Path, data: bytes) -> None:
    """A file that is whole or not there. Raises StoreError where it cannot be written."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(data)
        os.replace(aside, path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise StoreError(f"`{path}` cannot be written: {error.strerror or error}.") from error
