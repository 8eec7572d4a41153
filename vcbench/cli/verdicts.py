"""What is held to what: cards to their published answers, runs to their acceptance rules; a verdict is a mapping."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vcbench.cards import Card

Verdict = dict[str, Any]  # target, check, verdict (PASS, FAIL, INCONCLUSIVE, SKIPPED), detail


def exit_code(verdicts: Sequence[Verdict], inconclusive: str = "fail") -> int:
    """0 if nothing falls short, 1 for a FAIL, 3 for an INCONCLUSIVE (0 where `inconclusive` is "ok")."""
    words = {verdict["verdict"] for verdict in verdicts}
    if "FAIL" in words:
        return 1
    return 3 if "INCONCLUSIVE" in words and inconclusive != "ok" else 0


def target_verdicts(target: str) -> list[Verdict]:
    """The verdicts on a run folder, a card, or every card of a folder.

    Raises StoreError for a folder that holds neither, CardError for an unknown card.
    """
    path = Path(target)
    if (path / "run.json").is_file():
        return run_verdicts(path)
    cards = [str(card) for card in sorted(path.glob("*.toml"))] if path.is_dir() else [target]
    if not cards:
        from vcbench.errors import StoreError

        raise StoreError(f"`{target}` is a folder without a run (run.json) and without cards (*.toml).")
    from vcbench.cards import load_card

    verdicts: list[Verdict] = []
    for name in cards:
        card = load_card(name)
        variants = [] if ":" in card.name else [f"{name}:{variant.partition(':')[2]}" for variant in card.variants]
        for each in (card, *map(load_card, variants)):
            verdicts += card_verdicts(each)
    return verdicts


def run_verdicts(folder: Path) -> list[Verdict]:
    """One verdict for each acceptance check of a run, condition, method and parameter."""
    from vcbench.study.acceptance import check_rows
    from vcbench.study.replay import read_stored_spec
    from vcbench.study.store import read_rows

    spec = read_stored_spec(folder)
    if not spec.table.acceptance:
        return [_verdict(str(folder), "acceptance", "SKIPPED", "the study has no acceptance rules")]
    return [
        _verdict(str(folder), f"{v.measure} of {v.method}, {v.parameter}, condition {v.condition}", v.verdict, v.detail)
        for v in check_rows(spec, read_rows(folder))
    ]


def card_verdicts(card: "Card") -> list[Verdict]:
    """One verdict for each fit with published answers: it is made as said, and every printed digit must be met."""
    from vcbench.errors import CardError
    from vcbench.fit import fit
    from vcbench.numbers import plural

    if not card.published:
        return [_verdict(card.name, "published answers", "SKIPPED", "the card has none")]
    try:
        model = card.model()
    except CardError as error:
        return [_verdict(card.name, "published answers", "SKIPPED", str(error))]
    verdicts = []
    for entry in card.published:
        result = fit(model, method=entry.method, criterion=entry.criterion, **entry.options)
        answers = entry.answers(result)
        wrong = [f"{a.quantity} is {a.computed}, published {a.published}" for a in answers if not a.holds]
        label = " ".join(filter(None, (entry.method, entry.criterion, *(f"{k}={v}" for k, v in entry.options.items()))))
        detail = "; ".join([*wrong, entry.citation])
        verdicts.append(
            _verdict(card.name, f"{label}: {plural(len(answers), 'number')}", "FAIL" if wrong else "PASS", detail)
        )
    return verdicts


def _verdict(target: str, check: str, verdict: str, detail: str) -> Verdict:
    return {"target": target, "check": check, "verdict": verdict, "detail": detail}
