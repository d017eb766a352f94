"""What a plan is chosen for, and what was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gpucnn.specs import Spec


@dataclass(frozen=True)
class Situation:
    """What a plan is chosen for.

    Args:
        operation: a backend method's name.
        spec: without its batch.
        batch: the least power of two that is at least the batch; 0 for any.
        alignment: bytes to which all arrays are aligned: 16 or 1.
        candidates: names of the plans that there are.
    """

    operation: str
    spec: Spec
    batch: int
    alignment: int
    candidates: frozenset[str]

    @classmethod
    def of(cls, operation: str, spec: Spec, alignment: int, candidates: frozenset[str]) -> Situation:
        """Return the situation of a call."""
        batch = 1 << (max(spec.batch, 1) - 1).bit_length()
        return cls(operation, spec.batchless(), batch, alignment, candidates)

    def of_any_batch(self) -> Situation:
        """Return the situation that it shares with other batch sizes."""
        return replace(self, batch=0)

    def __str__(self) -> str:
        return f"{self.operation} {self.spec} batch {self.batch} alignment {self.alignment}"


@dataclass(frozen=True)
class Choice:
    """A plan that runs.

    Args:
        situation: what it was chosen for.
        plan: its name.
        summation: its order of additions.
        requires: the least capability times ten, or the exact target, that it needs.
        reason: why it was chosen.
        seconds: measured time of one run, by plan; empty where nothing was measured.
        excluded: plans that must not run, and how they disagreed with the direct kernel.
    """

    situation: Situation
    plan: str
    summation: str
    requires: int | str
    reason: str
    seconds: Mapping[str, float] = field(default_factory=dict)
    excluded: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What a trial of plans found; see Choice for the fields."""

    plan: str
    seconds: Mapping[str, float]
    excluded: Mapping[str, str]
