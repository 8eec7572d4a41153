"""What is held to what: cards to their published answers, runs to their acceptance rules, calibrations to uniformity.

A verdict is a mapping that JSON can hold: `target`, `check`, `verdict` (PASS, FAIL, INCONCLUSIVE, SKIPPED), `detail` in
words, and under `numbers` what it rests on.
"""

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcbench.errors import CardError, StoreError

if TYPE_CHECKING:
    from vcbench.cards import Card
    from vcbench.published import Published

Verdict = dict[str, Any]


def target_verdicts(target: str) -> list[Verdict]:
    """The verdicts on a run folder, a card, or every card of a folder.

    Raises StoreError for a folder that holds neither, CardError for an unknown card.
    """
    path = Path(target)
    if (path / "run.json").is_file():
        return run_verdicts(path)
    cards = [str(card) for card in sorted(path.glob("*.toml"))] if path.is_dir() else [target]
    if not cards:
        raise StoreError(f"`{target}` is a folder without a run (run.json) and without cards (*.toml).")
    return [verdict for name in cards for card in card_and_variants(name) for verdict in card_verdicts(card)]


def card_and_variants(name: str) -> list["Card"]:
    """A card by name or file, and its variants."""
    from vcbench.cards import load_card

    card = load_card(name)
    variants = [] if ":" in card.name else [f"{name}:{variant.partition(':')[2]}" for variant in card.variants]
    return [card, *map(load_card, variants)]


def run_verdicts(folder: Path) -> list[Verdict]:
    """One verdict for each acceptance check of a run, condition, method and parameter; or each quantity calibrated."""
    from vcbench.study.acceptance import check_rows
    from vcbench.study.mutant_runs import KIND as MUTANTS
    from vcbench.study.mutants import described
    from vcbench.study.parts import read_parts
    from vcbench.study.replay import read_stored_spec
    from vcbench.study.sbc_run import KIND
    from vcbench.study.store import read_run

    if read_run(folder).get("kind") == KIND:
        return _calibration_verdicts(folder)
    if read_run(folder).get("kind") == MUTANTS:
        return _mutant_verdicts(folder)
    spec = read_stored_spec(folder)
    if not spec.table.acceptance:
        return [_verdict(str(folder), "acceptance", "SKIPPED", "the study has no acceptance rules")]
    wrong = {method.label: mutant for method in spec.methods if (mutant := method.mutant or spec.table.mutant)}
    verdicts = []
    for v in check_rows(spec, read_parts(folder)):
        numbers = {key: _number(value) for key, value in asdict(v).items() if key not in ("verdict", "reason")}
        label = f"{v.measure} of {v.method}, {v.parameter}, condition {v.condition}"
        detail = f"{v.detail}; deliberately wrong: {described(wrong[v.method])}" if v.method in wrong else v.detail
        verdicts.append(_verdict(str(folder), label, v.verdict, detail, numbers))
    return verdicts


def _mutant_verdicts(folder: Path) -> list[Verdict]:
    """One verdict a mutant, which every run with it must find, and one on the alarms of runs without any."""
    from vcbench.study.mutant_runs import MOST_ALARMS, read_trials
    from vcbench.study.mutants import described

    trials = read_trials(folder)
    verdicts = []
    for name in dict.fromkeys(t["mutant"] for t in trials if t["mutant"]):
        own = [t for t in trials if t["mutant"] == name]
        hit = sum(t["caught"] is not None for t in own)
        detail = f"found in {hit} of {len(own)} runs"
        word = "PASS" if hit == len(own) else "FAIL"
        verdicts.append(_verdict(str(folder), f"mutant {described(name)}", word, detail))
    clean = [t for t in trials if not t["mutant"]]
    alarms = sum(t["first"] is not None for t in clean)
    if clean:
        word = "PASS" if alarms <= MOST_ALARMS else "FAIL"
        verdicts.append(_verdict(str(folder), "runs without a mutant", word, f"{alarms} alarms in {len(clean)} runs"))
    return verdicts


def _calibration_verdicts(folder: Path) -> list[Verdict]:
    from vcbench.study.sbc import read_sbc

    verdicts = []
    for found in read_sbc(folder):
        for quantity, row in found.table().iterrows():
            n = int(row["n"])
            numbers = {"measure": "sbc", "method": found.method, "parameter": str(quantity), "n": n,
                       "e": _number(float(row["e"])), "p": _number(float(row["p"]))}  # fmt: skip
            detail = f"{row['words']} (n = {n}, e-value {row['e']:.3g})"
            label = f"calibration of {found.method}, {quantity}"
            verdicts.append(_verdict(str(folder), label, str(row["verdict"]), detail, numbers))
    return verdicts


def card_verdicts(card: "Card") -> list[Verdict]:
    """One verdict for each fit with published answers: it is made as said, and every printed digit must be met."""
    if not card.published:
        return [_verdict(card.name, "published answers", "SKIPPED", "the card has none")]
    return [published_verdict(card, entry) for entry in card.published]


def published_verdict(card: "Card", entry: "Published") -> Verdict:
    """The verdict on one fit with published answers; SKIPPED where the card's data are absent."""
    from vcbench.fit import fit
    from vcbench.numbers import plural

    try:
        model = card.model()
    except CardError as error:
        return _verdict(card.name, "published answers", "SKIPPED", str(error), file=card.path)
    result = fit(model, method=entry.method, criterion=entry.criterion, **entry.options)
    answers = entry.answers(result)
    wrong = [f"{a.quantity} is {a.computed}, published {a.published}" for a in answers if not a.holds]
    label = f"{published_label(entry)}: {plural(len(answers), 'number')}"
    detail = "; ".join([*wrong, entry.citation])
    return _verdict(card.name, label, "FAIL" if wrong else "PASS", detail, file=card.path)


def published_label(entry: "Published") -> str:
    """The fit as a label: `ai reml tol=1e-08`."""
    return " ".join(filter(None, (entry.method, entry.criterion, *(f"{k}={v}" for k, v in entry.options.items()))))


def _verdict(
    target: str, check: str, verdict: str, detail: str, numbers: dict[str, Any] | None = None, file: Path | None = None
) -> Verdict:
    found: Verdict = {"target": target, "check": check, "verdict": verdict, "detail": detail}
    if numbers is not None:
        found["numbers"] = numbers
    if file is not None:
        found["file"] = str(file)
    return found


def _number(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
