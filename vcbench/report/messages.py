"""Messages that differ in their numbers only, said once with the range of each number."""

import re
from collections.abc import Sequence

NUMBER = re.compile(r"(?<![\w.])[-−]?\d+(?:\.\d+)?(?:[eE][-−+]?\d+)?(?![\w.]*\w)")


def pattern(message: str) -> str:
    """The message with each number left out: equal for messages that say the same."""
    return NUMBER.sub("\0", message)


def together(messages: Sequence[str]) -> str:
    """One message for several of one pattern: `stopped at 2000 iterations, 1e-07 to 0.0056 standard errors away`."""
    found = [NUMBER.findall(m) for m in messages]
    places = iter(range(len(found[0])))

    def said(_: re.Match[str]) -> str:
        slot = next(places)
        texts = sorted({numbers[slot] for numbers in found}, key=lambda t: float(t.replace("−", "-")))
        return texts[0] if len(texts) == 1 else f"{texts[0]} to {texts[-1]}"

    return NUMBER.sub(said, messages[0])
