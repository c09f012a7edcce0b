"""Normalisation on a GPU, where the normalised block stays."""

from typing import Any

import numpy as np

from edgefilter.compute.gpu import GpuBackend
from edgefilter.core.plan import Plan
from edgefilter.stages.search.normalise import Normaliser
from edgefilter_kernels.cuda.search.normalise import normalise
from edgefilter_kernels.search.normalise import NormalisedPower


class GpuNormaliser(Normaliser):
    """CUDA version of :class:`~edgefilter.stages.search.normalise.Normaliser`, for rows on the GPU or on the host.

    Parameters
    ----------
    plan
        Layout of the reduction.
    gpu
        The GPU.
    """

    def __init__(self, plan: Plan, gpu: GpuBackend) -> None:
        super().__init__(plan, gpu)
        self._gpu = gpu
        self._full_weight = gpu.to_device(self._full_weight)

    def _normalise(self, power: Any, cell_counts: Any) -> NormalisedPower:
        shape = self._plan.channels, self._plan.rows_per_block
        out = NormalisedPower(self._gpu.empty(shape, np.int8), self._gpu.empty(shape, np.int8))
        arguments = self._gpu.to_device(power), self._gpu.to_device(cell_counts), self._plan.cells_per_row, self.history
        normalise(*arguments, 0, shape[0], out)
        return out
