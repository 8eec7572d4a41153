"""The acceptance checks of a study, as its specification states them, on the rows it has."""

import tomllib

from vcbench import numbers as num
from vcbench.errors import VcbenchError
from vcbench.report.evidence import Evidence
from vcbench.report.tables import Cell, Table, cut, head

FLAGS = {"PASS": "", "INCONCLUSIVE": "", "FAIL": "bad"}


def check(evidence: Evidence) -> tuple[dict[str, int], Table | None]:
    """How many checks PASS, FAIL or are INCONCLUSIVE, and a table of them, worst first; nothing where there are none.

    A specification that this version cannot read any more has no verdicts; its rows still have a report.
    """
    try:
        if not tomllib.loads(evidence.spec).get("acceptance"):
            return {}, None
        from vcbench.study.acceptance import check_rows
        from vcbench.study.parts import read_parts
        from vcbench.study.spec import read_spec

        found = check_rows(read_spec(evidence.spec, "spec.toml"), read_parts(evidence.stored.folder))
    except (VcbenchError, tomllib.TOMLDecodeError):
        return {}, None
    counts = {word: n for word in FLAGS if (n := sum(v.verdict == word for v in found))}
    order = list(reversed(FLAGS))
    found.sort(key=lambda v: (order.index(v.verdict), v.check, v.condition, v.parameter, v.method))
    labels = {c.id: c.label for c in evidence.conditions}
    rows = [
        (
            Cell(v.verdict, v.verdict, FLAGS[v.verdict], number=False),
            head(v.measure),
            head(labels.get(v.condition, v.condition)),
            head(v.parameter),
            head(v.method),
            Cell(num.plus_minus(v.value, v.mcse), v.value),
            Cell(num.significant(v.target), v.target),
            Cell(f"± {num.significant(v.tolerance)}", v.tolerance),
        )
        for v in found
    ]
    columns = ("verdict", "measure", "condition", "parameter", "method", "value ± MCSE", "target", "tolerance")
    return counts, cut("acceptance", "Acceptance checks of the specification, worst first", columns, rows)
