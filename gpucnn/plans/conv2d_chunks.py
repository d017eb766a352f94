"""Gradients of a convolution's weight in two launches: sums of chunks of images or bands of rows, then their sum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gpucnn import dtypes
from gpucnn.limits import WARP
from gpucnn.plans.plan import Launch, Plan, ceil_div
from gpucnn.specs import Conv2dSpec

__all__: list[str] = []  # no operations

_LEAST_POSITIONS, _MOST_POSITIONS, _MOST_IMAGES = 256, 4096, 8
_ADDERS = 8
"""Threads that share the chunks of one weight in the second launch."""


@dataclass(frozen=True)
class Chunks:
    """How the outputs are cut: `images` whole images a chunk, or each image into `bands` of `band` rows.

    A chunk has at least about 256 outputs, and more for large weights, whose sums are then written less often. It
    depends on no batch.
    """

    images: int
    bands: int
    band: int

    @classmethod
    def of(cls, spec: Conv2dSpec, rows: int) -> Chunks:
        """Return the cut for kernels whose tiles have `rows` rows, of which few are cut short by the end of a band."""
        weights = spec.k * spec.r * spec.s * spec.c // spec.groups
        positions = min(max(weights // 24, _LEAST_POSITIONS), _MOST_POSITIONS)
        wanted = max(spec.p * spec.q // positions, 1)
        band = ceil_div(ceil_div(spec.p, wanted), rows) * rows if wanted > 1 else spec.p
        bands = ceil_div(spec.p, band)
        band = ceil_div(spec.p, bands)
        if bands > 1:
            return cls(1, bands, band)
        return cls(min(max(positions // (spec.p * spec.q), 1), _MOST_IMAGES), 1, band)

    @property
    def macros(self) -> dict[str, object]:
        return {"TUNE_IMAGES": self.images, "TUNE_IMAGE_CHUNKS": self.bands}

    def count(self, spec: Conv2dSpec) -> int:
        """Chunks of a batch, at least one."""
        return max(ceil_div(spec.n, self.images), 1) * self.bands

    def summed(self, algorithm: str, variant: str, first: Launch, spec: Conv2dSpec, order: str) -> Plan:
        """Return the Plan of a first launch and the sum of its chunks.

        Args:
            first: writes the sums of all chunks to the workspace.
            order: of the additions within a chunk.
        """
        weights = spec.k * spec.r * spec.s * spec.c // spec.groups
        adding = sum_launch(spec, self.macros, WARP, _ADDERS)
        summation = (
            f"{spec.acc_dtype} multiply-adds over chunks of {self.images} images or {self.band} rows, {order}; "
            f"chunks i, i + {_ADDERS}, ... added in order for each i < {_ADDERS}, then these in order"
        )
        workspace = self.count(spec) * weights * dtypes.numpy_dtype(spec.acc_dtype).itemsize
        return Plan(algorithm, variant, (first, adding), summation, workspace)


def order_of_chunks(chunk: int, slices: int) -> str:
    """Return the order of additions, for a summation, of chunks of positions that `slices` threads share."""
    return (
        f"n, p, q within chunks of {chunk} positions; "
        f"chunks i, i + {slices}, ... added in order for each i < {slices}, then these in order"
    )


def sum_launch(spec: Conv2dSpec, chunking: Mapping[str, object], lanes: int, slices: int) -> Launch:
    """Return the launch that adds the chunks of a gradient of the weight.

    Args:
        chunking: the macros that say how many chunks there are.
        lanes: weights of a block.
        slices: threads that share the chunks of one weight.
    """
    types = {name: value for name, value in spec.macros().items() if name in ("SPEC_T", "SPEC_ACC")}
    macros = {**types, **chunking, "TUNE_SLICES": slices, "TUNE_LANES": lanes}
    weights = spec.k * spec.r * spec.s * spec.c // spec.groups
    entry = "conv2d_backward_weight_sum"
    return Launch.of(f"{entry}.cu", entry, macros, (ceil_div(weights, lanes),), (lanes, slices))
