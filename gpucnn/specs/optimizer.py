"""Sizes of optimizer steps, of the loss scale's and of clipping, on one flat buffer of parameters.

`flags` holds one uint8 for every SEGMENT bytes of parameters (`elements_per_flag`): bit 0 trainable, bit 1 decayed.
Hyper-parameters, the table of learning rates and the count of steps stand in device memory, so that a captured step
sees them change. `steps` holds that count, int32, once for every PER_COUNT elements (`step_counts`), and every update
adds 1 to all of them: a kernel's blocks each have counts of their own, so that none of them has to wait for another.
`schedule` (int32) is [begin, last]: the table began when `begin` steps were taken, and `last` is its last entry: step
t, counted from 1, has rate = rates[clamp(t - 1 - begin, 0, last)].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from gpucnn import dtypes
from gpucnn.specs import base

SEGMENT = 256
"""Parameters start at multiples of this many bytes."""
TRAINABLE, DECAYED = 1, 2
PER_COUNT = 256
"""Elements that share one count of the steps."""
PIECE = 64
"""Segments, at most, of a piece of the buffer that is clipped."""
SMALLEST_SCALE, LARGEST_SCALE = 2.0**-14, 2.0**24
"""Of a loss; they and their inverses are exact float32 numbers."""


def elements_per_flag(dtype: str) -> int:
    """Return how many elements share one flag."""
    return SEGMENT // dtypes.numpy_dtype(dtype).itemsize


def step_counts(count: int) -> int:
    """Return how many counts of the steps a buffer of `count` elements has."""
    return max(-(-count // PER_COUNT), 1)


@dataclass(frozen=True)
class SgdSpec(base.Spec):
    """g += decay * p; v = momentum * v + g; p -= rate * (g + momentum * v if nesterov else v).

    hyper (acc_dtype): [momentum, decay]. Without momentum there is no velocity: p -= rate * g.
    """

    count: int
    momentum: bool
    nesterov: bool
    dtype: str

    runtime: ClassVar[tuple[str, ...]] = ("count",)

    def sizes(self) -> Mapping[str, object]:
        """Return the SPEC_* macros."""
        return {
            "SPEC_MOMENTUM": self.momentum,
            "SPEC_NESTEROV": self.nesterov,
            "SPEC_PER_FLAG": elements_per_flag(self.dtype),
            "SPEC_PER_COUNT": PER_COUNT,
        }

    def terms(self, operation: str) -> int:
        """Return a small count that covers the chained roundings."""
        return 4


@dataclass(frozen=True)
class AdamSpec(base.Spec):
    """Adam (Kingma & Ba 2015) or, `decoupled`, AdamW (Loshchilov & Hutter 2019).

    hyper (acc_dtype): [beta1, beta2, epsilon, decay];
    p -= rate * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon), AdamW also p -= rate * decay * p before.
    """

    count: int
    decoupled: bool
    dtype: str

    runtime: ClassVar[tuple[str, ...]] = ("count",)

    def sizes(self) -> Mapping[str, object]:
        """Return the SPEC_* macros."""
        return {
            "SPEC_DECOUPLED": self.decoupled,
            "SPEC_PER_FLAG": elements_per_flag(self.dtype),
            "SPEC_PER_COUNT": PER_COUNT,
        }

    def terms(self, operation: str) -> int:
        """Return a small count that covers the chained roundings."""
        return 16


@dataclass(frozen=True)
class LossScaleSpec(base.Spec):
    """Whether a buffer's gradients are finite, and what follows for the optimizer step and for the loss scale.

    factors: float32 [scale, 1/scale]; tally: int32 [good steps, skipped steps]; steps: how many there have been.

    All gradients of trainable segments finite: the step's flags `active` are `flags`, and after `interval` such steps
    in a row the scale doubles. Else `active` is 0, so that the step changes nothing, all of `steps` go back by one, so
    that it does not count, and the scale halves. It stays from SMALLEST_SCALE to LARGEST_SCALE.
    """

    count: int
    interval: int
    dtype: str

    runtime: ClassVar[tuple[str, ...]] = ("count", "interval")

    def sizes(self) -> Mapping[str, object]:
        """Return the SPEC_* macros."""
        return {
            "SPEC_PER_FLAG": elements_per_flag(self.dtype),
            "SPEC_PER_COUNT": PER_COUNT,
            "SPEC_SMALLEST": f"{SMALLEST_SCALE!r}f",
            "SPEC_LARGEST": f"{LARGEST_SCALE!r}f",
        }

    def terms(self, operation: str) -> int:
        """Return 1: powers of two are exact."""
        return 1


@dataclass(frozen=True)
class SquaredNormSpec(base.Spec):
    """sums[j] = the sum of g**2 over group j of a buffer's gradients, frozen segments left out: float64 (groups,).

    Tables in device memory, int32: pieces (pieces, 3), [group, first segment, segments] each, a piece within one
    parameter and those of a group together; bounds (groups + 1,), group j has pieces bounds[j] to bounds[j + 1] - 1.
    """

    pieces: int
    groups: int
    dtype: str

    runtime: ClassVar[tuple[str, ...]] = ("pieces", "groups")

    @property
    def acc_dtype(self) -> str:
        """float64: the square of no float32 overflows there."""
        return "float64"

    def sizes(self) -> Mapping[str, object]:
        """Return the SPEC_* macros."""
        return {"SPEC_PER_FLAG": elements_per_flag(self.dtype)}


CLIP_KINDS = ("value", "norm", "global_norm")


@dataclass(frozen=True)
class ClipSpec(base.Spec):
    """Gradients of a buffer brought within a limit, float64 (1,) in device memory.

    value: into [-limit, limit]. norm: a group's, whose `SquaredNormSpec` sum is S, times limit / sqrt(S) where sqrt(S)
    is larger than the limit; global_norm: with S the sum of all `sums` sums. Where a norm is not finite, its gradients
    become NaN. Pieces as in SquaredNormSpec.
    """

    kind: str
    pieces: int
    sums: int
    dtype: str

    runtime: ClassVar[tuple[str, ...]] = ("pieces", "sums")

    def __post_init__(self) -> None:
        if self.kind not in CLIP_KINDS:
            raise ValueError(f"clip: kind must be one of {', '.join(CLIP_KINDS)}, got {self.kind!r}")

    def sizes(self) -> Mapping[str, object]:
        """Return the SPEC_* macros."""
        return {"SPEC_GLOBAL": self.kind == "global_norm", "SPEC_PER_FLAG": elements_per_flag(self.dtype)}

    def terms(self, operation: str) -> int:
        """Return a small count that covers the chained roundings."""
        return 4
