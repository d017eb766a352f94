"""A model's layers and their arguments as JSON, and back."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from gpucnn import augment, initializers, layers
from gpucnn.errors import CheckpointError
from gpucnn.layers import Layer

_LAYERS, _LAYER, _DICT, _INITIALIZER = "layers", "layer", "dict", "initializer"
_OWN = ("name", "trainable")
"""Arguments that may have changed since a layer was made: what it is now counts."""


def known_classes() -> dict[str, type[Layer]]:
    """Return the classes that a file may name."""
    from gpucnn.model.sequential import Sequential  # which is fitted

    found = {name: getattr(module, name) for module in (layers, augment) for name in module.__all__}
    found["Sequential"] = Sequential
    classes = [c for c in found.values() if inspect.isclass(c) and issubclass(c, Layer) and c is not Layer]
    return {c.__name__: c for c in classes}


def describe(layer: Layer) -> dict[str, Any]:
    """Return a layer's class and arguments, those of the layers in it among them, as JSON.

    Raises:
        CheckpointError: a class that is not gpucnn's own, or an argument that JSON cannot hold.
    """
    kind = type(layer)
    if known_classes().get(kind.__name__) is not kind:
        raise CheckpointError(
            f"{layer.label}: {kind.__name__} is not one of gpucnn's layers, so a file cannot hold it; "
            "save_weights keeps the parameters alone"
        )
    made = layer.construction
    given = dict(inspect.signature(kind.__init__).bind(layer, *made.positional, **made.named).arguments)
    given.pop("self")
    given.update({name: getattr(layer, name) for name in _OWN if name in inspect.signature(kind).parameters})
    if hasattr(layer, _LAYERS) and _LAYERS in inspect.signature(kind).parameters:
        given[_LAYERS] = getattr(layer, _LAYERS)
    arguments = {name: _encoded(value, f"{kind.__name__}: {name}") for name, value in sorted(given.items())}
    return {"class": kind.__name__, "arguments": arguments, "numbered": layer.numbered}


def described(layer: Layer) -> dict[str, Any] | None:
    """Return what `describe` does, None for a layer that it cannot describe."""
    try:
        return describe(layer)
    except CheckpointError:
        return None


def rebuild(description: Any) -> Layer:
    """Make a layer, not yet built, from what `describe` returned. Only classes of gpucnn are called.

    Raises:
        CheckpointError: not such a description, an unknown class, or arguments that the class does not take.
    """
    if not isinstance(description, Mapping) or not isinstance(description.get("arguments"), Mapping):
        raise CheckpointError(f"a layer needs a class and arguments, got {description!r:.100}")
    name, classes = description.get("class"), known_classes()
    if not isinstance(name, str) or name not in classes:
        raise CheckpointError(f"unknown layer class {name!r}; this gpucnn knows {', '.join(sorted(classes))}")
    kind = classes[name]
    arguments = {key: _decoded(value) for key, value in description["arguments"].items()}
    several = [p.name for p in inspect.signature(kind).parameters.values() if p.kind is p.VAR_POSITIONAL]
    positional = [item for key in several for item in arguments.pop(key, ())]
    try:
        layer = kind(*positional, **arguments)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{name} cannot be made from the file: {error}") from error
    layer.numbered = bool(description.get("numbered"))
    return layer


def _encoded(value: Any, what: str) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Layer):
        return {_LAYER: describe(value)}
    if isinstance(value, (list, tuple)):
        return [_encoded(item, what) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {_DICT: {key: _encoded(item, what) for key, item in value.items()}}
    named = initializers.name_of(value) if callable(value) else None
    settings = initializers.settings(value) if named is None else None
    if named is None and settings is None:
        raise CheckpointError(f"{what} is {type(value).__name__} {value!r:.60}, which a file cannot hold; give a name")
    return named if settings is None else {_INITIALIZER: settings}


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_decoded(item) for item in value)
    if not isinstance(value, Mapping):
        return value
    if value.keys() == {_LAYER}:
        return rebuild(value[_LAYER])
    if value.keys() == {_DICT} and isinstance(value[_DICT], Mapping):
        return {key: _decoded(item) for key, item in value[_DICT].items()}
    if value.keys() == {_INITIALIZER} and isinstance(value[_INITIALIZER], Mapping):
        try:
            return initializers.of_settings(value[_INITIALIZER])
        except ValueError as error:
            raise CheckpointError(f"an argument of a layer: {error}") from error
    raise CheckpointError(f"an argument of a layer is neither a value nor a layer: {value!r:.100}")
