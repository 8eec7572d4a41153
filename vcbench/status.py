"""How a fit ended: a value on the result, never an exception."""

from enum import StrEnum


class Status(StrEnum):
    """What the data did to a fit.

    CONVERGED and AT_BOUNDARY are valid endings (AT_BOUNDARY: the maximum lies on the edge of the parameter space).
    The others say why there is no maximum in hand.
    """

    CONVERGED = "CONVERGED"
    AT_BOUNDARY = "AT_BOUNDARY"
    MAX_ITER = "MAX_ITER"
    SINGULAR_V = "SINGULAR_V"
    FAILED = "FAILED"
    TIMEOUT = "TIMEOUT"
    SKIPPED = "SKIPPED"

    @property
    def ok(self) -> bool:
        """True where the estimate is the method's answer."""
        return self in (Status.CONVERGED, Status.AT_BOUNDARY)
