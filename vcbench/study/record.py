"""run.json: what a report needs to know of a study without reading its specification."""

from typing import Any

import vcbench
from vcbench.study.ademp import ademp
from vcbench.study.derived import name_of
from vcbench.study.genomic import SnpTraits
from vcbench.study.mutants import wrong_in
from vcbench.study.spec import Spec
from vcbench.study.traits import parameters_of
from vcbench.study.work import provenance


def describe(spec: Spec, stem: str) -> dict[str, Any]:
    """The study as a mapping that JSON can hold: its words, conditions, methods, and what made it."""
    table = spec.table
    return dict(
        study=stem,
        title=f"{table.title} ({wrong})" if (wrong := wrong_in(spec)) else table.title,
        question=table.question,
        aims=table.aims,
        mechanisms=table.mechanisms,
        estimands=table.estimands,
        ademp=[list(pair) for pair in ademp(spec)],
        answer=table.answer,
        figures={
            name: {
                "measure": about.measure,
                "method": [about.method] if isinstance(about.method, str) else about.method,
                "parameter": [about.parameter] if isinstance(about.parameter, str) else about.parameter,
                "condition": [c.id for c in spec.conditions if about.speaks_of(c)],
            }
            for name, about in table.figures.items()
        },
        spec_hash=spec.spec_hash,
        version=vcbench.__version__,
        seed=table.seed,
        replicates=table.first,
        rule=table.rule,
        level=table.level,
        reference=table.reference,
        measures=list(table.measures),
        derived=[name_of(said) for said in table.derive],
        parameters=_of_traits(spec),
        conditions=[
            {"id": c.id, "data": c.entry, "real": c.real, "factors": dict(c.factors), "settings": dict(c.settings)}
            | ({"about": c.about} if c.about else {})
            for c in spec.conditions
        ],
        methods=[
            {"label": m.label, "name": m.name, "criterion": m.criterion, "kind": m.kind, "options": dict(m.options)}
            | m.asks
            for m in spec.methods
        ],
        provenance=provenance(),
    )


def _of_traits(spec: Spec) -> list[str]:
    """The parameters of several traits, in their order."""
    found = [c.generator.k for c in spec.conditions if isinstance(c.generator, SnpTraits)]
    return list(dict.fromkeys(name for k in found for name in parameters_of(k)))
