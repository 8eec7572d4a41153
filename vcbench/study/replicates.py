"""How many replicates a study needs: the n at which a measure's Monte Carlo standard error meets its target."""

import math

from vcbench.errors import DataError, did_you_mean

MEANS = ("bias", "relative_bias", "paired_difference", "interval_width", "seconds_mean")
PROPORTIONS = {
    "coverage": 0.95, "be_coverage": 0.95, "rejection": 0.05, "convergence_rate": 0.95, "boundary_rate": 0.5,
    "nonpositive_rate": 0.5, "failure_rate": 0.05, "no_interval_rate": 0.05, "share_equal": 0.95,
}  # fmt: skip
SPREADS = ("empirical_se", "model_se_error", "variance_ratio", "relative_precision")


def replicates_for(
    measure: str, mcse: float, *, sd: float | None = None, p: float | None = None, correlation: float = 0.0
) -> int:
    """The smallest n at which `measure` has a Monte Carlo standard error of `mcse` or less.

        bias, relative_bias, paired_difference, interval_width   (sd/mcse)²
        coverage, rejection, rates                               p(1 − p)/mcse²
        empirical_se                                             (sd/mcse)²/2 + 1
        model_se_error, in per cent                              (100/mcse)²/2 + 1
        variance_ratio                                           2/mcse² + 1
        relative_precision, in per cent                          (200/mcse)² (1 − correlation²) + 1

    sd: of one replicate (of θ̂ for the bias and the empirical SE, which is asked for in the units of θ̂; sd=1 makes the
    target relative). p: the proportion expected; by default the nominal one, 0.95 for coverage, and 0.05 for
    rejection and failures. correlation: between the two methods' estimates. The last four lines are those of normal
    estimates with known SEs; a variance component's are wider apart, so that a pilot study's MCSE, which shrinks like
    1/√n, is the better guide: n = n_pilot (mcse_pilot/mcse)².

    Raises DataError for a measure without such a rule, and for an mcse, sd or p out of range.
    """
    known = (*MEANS, *PROPORTIONS, *SPREADS)
    if measure not in known:
        raise DataError(
            f"there is no rule for the replicates of `{measure}`. Choose from {', '.join(known)}; for others run a"
            f" pilot: its MCSE shrinks like 1/√n.{did_you_mean(measure, known)}"
        )
    if not (math.isfinite(mcse) and mcse > 0):
        raise DataError(f"mcse is {mcse}; the target must be a positive number, in the units of the measure.")
    if measure in PROPORTIONS:
        p = PROPORTIONS[measure] if p is None else p
        if not 0 < p < 1:
            raise DataError(f"p is {p}; the expected proportion lies between 0 and 1 (0.95, not 95).")
        return _up(p * (1 - p) / mcse**2)
    if measure in (*MEANS, "empirical_se"):
        if sd is None or not (math.isfinite(sd) and sd > 0):
            raise DataError(
                f"`{measure}` needs `sd`, the standard deviation of one replicate (it is {sd}). A pilot of 50"
                " replicates tells it; sd=1 asks for a target in standard deviations."
            )
        return _up((sd / mcse) ** 2) if measure in MEANS else _up((sd / mcse) ** 2 / 2 + 1)
    if not -1 <= correlation < 1:
        raise DataError(f"correlation is {correlation}; it must lie between −1 and 1.")
    if measure == "relative_precision":
        return _up((200 / mcse) ** 2 * (1 - correlation**2) + 1)
    return _up((100 / mcse) ** 2 / 2 + 1 if measure == "model_se_error" else 2 / mcse**2 + 1)


def _up(n: float) -> int:
    """The next whole number, rounding apart."""
    return max(2, math.ceil(n * (1 - 1e-12)))
