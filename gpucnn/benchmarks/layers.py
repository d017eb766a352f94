"""The convolutions that are measured."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gpucnn.specs import Conv2dSpec


@dataclass(frozen=True)
class Convolution:
    """One convolution, sizes as everywhere: images (N, H, W, C), filters (K, R, S, C/groups).

    Args:
        kind: "first", "dense", "depthwise" or "other": which goal a row counts for.
    """

    kind: str
    n: int
    c: int
    k: int
    size: int
    image: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1

    @property
    def name(self) -> str:
        """Unique among the rows: "N64 C64 K64 3x3/2 56²"."""
        step = f"/{self.stride}" if self.stride > 1 else ""
        spread = f" dilation {self.dilation}" if self.dilation > 1 else ""
        channels = f"depthwise C{self.c}" if self.groups == self.c > 1 else f"C{self.c} K{self.k}"
        return f"N{self.n} {channels} {self.size}x{self.size}{step}{spread} {self.image}²"

    @property
    def x_shape(self) -> tuple[int, int, int, int]:
        """(N, H, W, C)."""
        return self.n, self.image, self.image, self.c

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """(K, R, S, C/groups)."""
        return self.k, self.size, self.size, self.c // self.groups

    def spec(self, dtype: str = "float32", precision: str = "float32") -> Conv2dSpec:
        """Return the sizes of the operation, without bias and activation."""
        return Conv2dSpec.of(
            self.x_shape,
            self.weight_shape,
            dtype,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            precision=precision,
        )


_64 = (
    Convolution("first", 256, 1, 24, 5, 28),  # MNIST's first
    Convolution("other", 64, 6, 16, 5, 14),  # LeNet's second
    Convolution("first", 64, 3, 64, 3, 32, padding=1),
    Convolution("first", 32, 3, 64, 7, 224, stride=2, padding=3),
    Convolution("dense", 64, 64, 64, 3, 56, padding=1),
    Convolution("dense", 64, 128, 128, 3, 28, padding=1),
    Convolution("dense", 64, 256, 256, 3, 14, padding=1),
    Convolution("dense", 64, 512, 512, 3, 7, padding=1),
    Convolution("dense", 64, 256, 64, 1, 56),
    Convolution("dense", 64, 64, 256, 1, 56),
    Convolution("dense", 64, 256, 512, 1, 56, stride=2),
    Convolution("dense", 64, 64, 128, 3, 56, stride=2, padding=1),
    Convolution("depthwise", 64, 128, 128, 3, 56, padding=1, groups=128),
    Convolution("depthwise", 64, 256, 256, 3, 28, stride=2, padding=1, groups=256),
    Convolution("other", 64, 64, 64, 3, 28, padding=2, dilation=2),
)
_SMALL_BATCHES = (_64[3], _64[4], _64[6], _64[8])
CONVOLUTIONS = _64 + tuple(replace(layer, kind="other", n=n) for n in (1, 8) for layer in _SMALL_BATCHES)
"""The layer table of the GPU's kernels; rows of one or eight images count for no goal."""

CPU_CONVOLUTIONS = (
    Convolution("first", 64, 1, 32, 5, 28),
    Convolution("dense", 64, 32, 32, 5, 24),
    Convolution("dense", 64, 24, 32, 3, 12),
    Convolution("dense", 64, 64, 64, 3, 16),
    Convolution("dense", 64, 64, 64, 3, 32),
    Convolution("dense", 32, 128, 128, 3, 28),
    Convolution("dense", 32, 256, 256, 3, 16),
)
"""Those of the CPU, strict float32, without padding."""

PASSES = ("forward", "backward_input", "backward_weight")
