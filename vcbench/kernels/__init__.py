"""How ℓ is computed: one kernel per structure, chosen automatically or by name."""

from vcbench.kernels.choose import KERNELS, build, choose, explain, reduce
from vcbench.kernels.protocol import Evaluation, Kernel, Moments

__all__ = ["KERNELS", "Evaluation", "Kernel", "Moments", "build", "choose", "explain", "reduce"]
