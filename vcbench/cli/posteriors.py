"""`vcbench check … --posterior FOLDER`: point estimates of cards in their posteriors, as a report."""

from pathlib import Path


def posterior_checks(targets: tuple[str, ...], folder: Path) -> int:
    """Check cards with their variants and write the report; 1 where a method misses its maximum, 2 without a card."""
    from rich.console import Console

    from vcbench.cards import find_cards, load_card
    from vcbench.report.posterior_checks import publish
    from vcbench.study.posterior_checks import check_cards
    from vcbench.study.work import provenance

    progress = Console(stderr=True, highlight=False)
    cards = _cards(targets) or list(find_cards())
    names = [name for card in cards for name in (card, *load_card(card).variants)]
    found, missing = check_cards(names, say=lambda text: progress.print(text, soft_wrap=True))
    for name, reason in missing.items():
        progress.print(f"{name}: {reason}", soft_wrap=True)
    if not found:
        return 2
    print(publish(found, missing, folder, provenance()))
    return int(any(one.check.verdict.startswith("DISAGREE") for one in found))


def _cards(targets: tuple[str, ...]) -> list[str]:
    """Card names or paths; the cards of a folder."""
    out: list[str] = []
    for target in targets:
        path = Path(target)
        out += [str(p) for p in sorted(path.glob("*.toml"))] if path.is_dir() else [target]
    return out
