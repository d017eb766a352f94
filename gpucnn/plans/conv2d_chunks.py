"""Gradients of a convolution's weight in two launches: sums of chunks of images or bands of rows, then their sum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from gpucnn import dtypes
from gpucnn.limits import WARP
from gpucnn.plans.geometry import BLOCK, TYPICAL_BATCH
from gpucnn.plans.plan import Launch, Plan, ceil_div
from gpucnn.specs import Conv2dSpec

__all__: list[str] = []  # no operations

_LEAST_POSITIONS, _MOST_POSITIONS, _MOST_IMAGES = 256, 4096, 8
_ADDERS = 8
"""Threads that share the chunks of one weight in the second launch."""
_LEAST_CHUNK, _CHUNK_STEP = 256, 64
_SMALL_WEIGHT = 2**18
"""Above it one thread per weight fills a device, and the chunks are too few to share."""


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
        positions = min(max(_weights(spec) // 24, _LEAST_POSITIONS), _MOST_POSITIONS)
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
        adding = _sum_launch(spec, self.macros, WARP, _ADDERS)
        summation = (
            f"{spec.acc_dtype} multiply-adds over chunks of {self.images} images or {self.band} rows, {order}; "
            f"chunks i, i + {_ADDERS}, ... added in order for each i < {_ADDERS}, then these in order"
        )
        workspace = self.count(spec) * _weights(spec) * dtypes.numpy_dtype(spec.acc_dtype).itemsize
        return Plan(algorithm, variant, (first, adding), summation, workspace)


@dataclass(frozen=True)
class PositionChunks:
    """How the outputs of a batch are cut into chunks of `length` positions, whatever image they are in."""

    spec: Conv2dSpec
    length: int

    @staticmethod
    def lengths(spec: Conv2dSpec, most: int) -> list[int]:
        """Return the lengths to choose from, ascending: those that make up to `most` chunks of a typical batch."""
        positions = TYPICAL_BATCH * spec.p * spec.q
        numbers = range(1, min(ceil_div(positions, _LEAST_CHUNK), most) + 1)
        return sorted({ceil_div(ceil_div(positions, chunks), _CHUNK_STEP) * _CHUNK_STEP for chunks in numbers})

    @property
    def count(self) -> int:
        """Chunks of the batch."""
        return ceil_div(self.spec.n * self.spec.p * self.spec.q, self.length)

    @property
    def macros(self) -> dict[str, object]:
        return {"TUNE_CHUNK": self.length}

    @property
    def order(self) -> str:
        """The order of additions, for a summation."""
        return (
            f"n, p, q within chunks of {self.length} positions; "
            f"chunks i, i + {self._adders}, ... added in order for each i < {self._adders}, then these in order"
        )

    def summed(self, first: Plan) -> Plan:
        """Return the Plan of a first launch, which writes the sums of all chunks to the workspace, and their sum."""
        adding = _sum_launch(self.spec, self.macros, BLOCK // self._adders, self._adders)
        workspace = self.count * _weights(self.spec) * dtypes.numpy_dtype(self.spec.acc_dtype).itemsize
        return replace(first, launches=(*first.launches, adding), workspace_bytes=workspace)

    @property
    def _adders(self) -> int:
        return _ADDERS if _weights(self.spec) < _SMALL_WEIGHT else 1


def _weights(spec: Conv2dSpec) -> int:
    return spec.k * spec.r * spec.s * spec.c // spec.groups


def _sum_launch(spec: Conv2dSpec, chunking: Mapping[str, object], lanes: int, slices: int) -> Launch:
    """Return the launch that adds the chunks of a gradient of the weight.

    Args:
        chunking: the macros that say how many chunks there are.
        lanes: weights of a block.
        slices: threads that share the chunks of one weight.
    """
    types = {name: value for name, value in spec.macros().items() if name in ("SPEC_T", "SPEC_ACC")}
    macros = {**types, **chunking, "TUNE_SLICES": slices, "TUNE_LANES": lanes}
    entry = "conv2d_backward_weight_sum"
    return Launch.of(f"{entry}.cu", entry, macros, (ceil_div(_weights(spec), lanes),), (lanes, slices))
