"""Structures of the residual covariance R(θ)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Residual:
    """R = σ_e² I: independent, equal variances."""

    kind: str = "iid"

    @property
    def names(self) -> tuple[str, ...]:
        """Parameter names, in order."""
        return ("residual:var",)


def iid() -> Residual:
    """R = σ_e² I."""
    return Residual()
