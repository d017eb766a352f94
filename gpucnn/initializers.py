"""Initial weights, drawn on the host for every backend.

An initializer is given to a layer by name ("he_normal"), as an object (`HeNormal()`, `Orthogonal(2.0)`), or as a
function of one's own that takes a generator and a shape.

Fan-in is the number of inputs of one output, fan-out the number of outputs of one input; for filters (K, R, S, C)
they are R*S*C and R*S*K, for a weight (units, features) features and units. Filters in groups count by their shape too,
(K, R, S, C/groups): fan-in R*S*C/groups, fan-out R*S*K, as PyTorch and Keras count. For DepthwiseConv2D, of which
(C*depth_multiplier, R, S, 1) is the shape, that is R*S and R*S*C*depth_multiplier, as in PyTorch. Keras, whose shape is
(R, S, C, depth_multiplier), takes R*S*C and R*S*depth_multiplier there: with a depth_multiplier of 1 Glorot's are the
same, those of He and LeCun have a variance C times smaller.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from gpucnn.arguments import named, number, positive

Function = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
"""What draws an array of a shape with a generator."""


@dataclass(frozen=True)
class Initializer:
    """Base of initializers; two of the same settings are equal."""

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Return an array of a shape, drawn with a generator."""
        raise TypeError(f"{type(self).__name__} does not define __call__(self, rng, shape)")


@dataclass(frozen=True)
class Constant(Initializer):
    """All `value`.

    Args:
        value: finite.

    >>> Constant(0.1)(np.random.default_rng(0), (2,)).tolist()
    [0.1, 0.1]
    """

    value: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", number(self.value, "Constant: value"))

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return np.full(shape, self.value)


@dataclass(frozen=True)
class Zeros(Initializer):
    """All 0."""

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return np.zeros(shape)


@dataclass(frozen=True)
class Ones(Initializer):
    """All 1."""

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return np.ones(shape)


@dataclass(frozen=True)
class _Scaled(Initializer):
    """Numbers of mean 0 and variance `gain` / fan, where fan is fan-in or its average with fan-out."""

    gain: ClassVar[float]
    averages: ClassVar[bool]
    uniform: ClassVar[bool]

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        fan_in, fan_out = _fans(shape)
        fan = (fan_in + fan_out) / 2 if self.averages else fan_in
        if self.uniform:
            limit = math.sqrt(3.0 * self.gain / fan)
            return rng.uniform(-limit, limit, shape)
        return rng.normal(0.0, math.sqrt(self.gain / fan), shape)


@dataclass(frozen=True)
class GlorotUniform(_Scaled):
    """Uniform in +-sqrt(6 / (fan_in + fan_out)). Source: Glorot & Bengio 2010."""

    gain, averages, uniform = 1.0, True, True


@dataclass(frozen=True)
class GlorotNormal(_Scaled):
    """Normal with variance 2 / (fan_in + fan_out). Source: Glorot & Bengio 2010."""

    gain, averages, uniform = 1.0, True, False


@dataclass(frozen=True)
class HeUniform(_Scaled):
    """Uniform in +-sqrt(6 / fan_in). Source: He et al. 2015."""

    gain, averages, uniform = 2.0, False, True


@dataclass(frozen=True)
class HeNormal(_Scaled):
    """Normal with variance 2 / fan_in. Source: He et al. 2015."""

    gain, averages, uniform = 2.0, False, False


@dataclass(frozen=True)
class LecunUniform(_Scaled):
    """Uniform in +-sqrt(3 / fan_in). Source: LeCun et al., "Efficient BackProp", 1998."""

    gain, averages, uniform = 1.0, False, True


@dataclass(frozen=True)
class LecunNormal(_Scaled):
    """Normal with variance 1 / fan_in. Source: LeCun et al., "Efficient BackProp", 1998."""

    gain, averages, uniform = 1.0, False, False


@dataclass(frozen=True)
class Orthogonal(Initializer):
    """A matrix whose rows, or columns where there are fewer of them, are orthogonal and `gain` long.

    The matrix is (outputs, inputs of one output): a weight (units, features) as it is, filters (K, R*S*C). It is drawn
    uniformly: Q of a normal matrix's QR decomposition with the signs of R's diagonal.

    Args:
        gain: above 0.

    Raises:
        ValueError: in use: a shape of fewer than two axes.

    Source: Saxe et al., "Exact solutions to the nonlinear dynamics of learning", arXiv:1312.6120; the signs: Mezzadri,
    "How to generate random matrices from the classical compact groups", 2007.
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "gain", positive(self.gain, "Orthogonal: gain"))

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        if len(shape) < 2:
            raise ValueError(f"Orthogonal: the shape must have at least two axes, got {shape}")
        rows, columns = shape[0], math.prod(shape[1:])
        q, r = np.linalg.qr(rng.normal(size=(max(rows, columns), min(rows, columns))))
        q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)
        return (self.gain * (q if rows >= columns else q.T)).reshape(shape)


def _fans(shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) < 2:
        return max(math.prod(shape), 1), max(math.prod(shape), 1)
    receptive = math.prod(shape[1:-1])
    return receptive * shape[-1], receptive * shape[0]


zeros = Zeros()
ones = Ones()
glorot_uniform = GlorotUniform()
glorot_normal = GlorotNormal()
he_uniform = HeUniform()
he_normal = HeNormal()
lecun_uniform = LecunUniform()
lecun_normal = LecunNormal()
orthogonal = Orthogonal()

_NAMED: dict[str, Initializer] = {
    "zeros": zeros,
    "ones": ones,
    "constant": Constant(),
    "glorot_uniform": glorot_uniform,
    "glorot_normal": glorot_normal,
    "he_uniform": he_uniform,
    "he_normal": he_normal,
    "lecun_uniform": lecun_uniform,
    "lecun_normal": lecun_normal,
    "orthogonal": orthogonal,
}
_CLASSES = {type(known).__name__: type(known) for known in _NAMED.values()}


def name_of(initializer: str | Function) -> str | None:
    """Return the name that `get` takes for an initializer; None where it has other settings or is one's own."""
    if isinstance(initializer, str):
        return initializer
    return next((name for name, known in _NAMED.items() if known == initializer), None)


def settings(initializer: Any) -> dict[str, Any] | None:
    """Return the class and the numbers of one of these initializers as JSON; None for anything else."""
    kind = type(initializer)
    if _CLASSES.get(kind.__name__) is not kind:
        return None
    return {"class": kind.__name__, **asdict(initializer)}


def of_settings(given: Mapping[str, Any]) -> Initializer:
    """Return the initializer of which these are the `settings`.

    Raises:
        ValueError: there is none.
    """
    kind, numbers = given.get("class"), {name: value for name, value in given.items() if name != "class"}
    if not isinstance(kind, str) or kind not in _CLASSES:
        raise ValueError(f"unknown initializer class {kind!r}; known: {', '.join(_CLASSES)}")
    try:
        return _CLASSES[kind](**numbers)
    except TypeError as error:
        raise ValueError(f"initializer {kind}: {error}") from error


def get(initializer: str | Function) -> Function:
    """Return an initializer by name, whose case does not matter, or the object or function itself.

    Raises:
        ValueError: unknown name.
        TypeError: a class, which needs to be called first; or neither a name nor a function.
    """
    if isinstance(initializer, type):
        raise TypeError(f"initializer must be a name or an object, got the class; write {initializer.__name__}()")
    if callable(initializer):
        return initializer
    return named(initializer, _NAMED, "initializer", "a function")
