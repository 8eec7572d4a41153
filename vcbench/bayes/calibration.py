"""The door to simulation-based calibration, which belongs to the study room: truths, replicates, rows and verdicts."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vcbench.study.sbc import Sbc


def sbc(model: Any, method: str = "nuts", n: int = 500, *more: Any, **options: Any) -> "Sbc":
    """Calibrate a method on `model`'s design by simulation: `vcbench.study.sbc.sbc`, which takes the same arguments.

    `vc.bayes.sbc(model, "quadrature", n=1000, priors=…, seed=1, out="runs/sbc/mine", workers=2)`: n truths from the
    prior, data at each, and the place of the truth in what the method says of them. A method that is right gives
    uniform places, for every parameter and for functions of parameters and data.
    """
    from vcbench.study.sbc import sbc as calibrate

    return calibrate(model, method, n, *more, **options)
