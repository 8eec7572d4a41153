"""A calibration as text: one line a quantity, the verdict, and what was left out."""

from typing import Any

from vcbench.study.sbc_bands import LEAST
from vcbench.summary import columns


def lines_of(sbc: Any) -> list[str]:
    """The table in columns, the verdict below it."""
    table = sbc.table()
    head = ["quantity", "n", "gated", "p (band)", "e-value", "mean z", "SD z", "verdict", ""]
    rows = []
    for name, row in table.iterrows():
        rows.append([
            str(name), f"{row['n']}", f"{row['gated']}", pvalue(row["p"]), evalue(row["e"]), f"{row['mean_z']:+.2f}",
            f"{row['sd_z']:.2f}", row["verdict"], row["words"],
        ])  # fmt: skip
    lines = [f"{sbc.name} · {sbc.method} · {sbc.n} replicates from the prior", ""]
    lines += columns(head, rows, left=(0, 7, 8))
    lines += ["", f"{sbc.verdict}: {_sentence(sbc, table)}"]
    if len(sbc.gated):
        lines.append(f"left out, most frequent first: {sbc.gated.index[0]} ({sbc.gated.iloc[0]} of {sbc.gated.sum()})")
    return lines


def _sentence(sbc: Any, table: Any) -> str:
    bad = [str(name) for name in table.index[table["verdict"] == "FAIL"]]
    level = f"chance of a false FAIL {sbc.alarm:g} in all, {sbc.alarm_each:.1e} a test"
    if bad:
        return f"{len(bad)} of {len(table)} quantities are not calibrated ({', '.join(bad[:4])}" + (
            f" and {len(bad) - 4} more); {level}" if len(bad) > 4 else f"); {level}"
        )
    short = int((table["verdict"] == "INCONCLUSIVE").sum())
    if short:
        return f"nothing found, but {short} of {len(table)} quantities cannot be told yet; {level}"
    return f"all {len(table)} quantities are calibrated; {level}"


def pvalue(p: float) -> str:
    if p != p:
        return "–"
    return f"{p:.3f}" if p >= 1e-3 else f"{p:.0e}" if p > LEAST else f"< {LEAST:.0e}"


def evalue(e: float) -> str:
    return "–" if e != e else f"{e:.2g}" if e < 1e4 else f"{e:.0e}"
