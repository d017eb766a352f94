"""Names of layers: each counts within its model."""

from __future__ import annotations

from collections.abc import Sequence

from gpucnn.layers import Layer
from gpucnn.layers.layer import snake_case

_KEPT_NAMES = {"MaxPool2D": "MaxPooling2D", "MinPool2D": "MinPooling2D"}


def name_layers(layers: Sequence[Layer]) -> None:
    """Number the unnamed layers of a model by kind: conv2d_1, conv2d_2, activation_1 …

    Raises:
        ValueError: two layers were given the same name.
    """
    given = [layer.name for layer in layers if layer.name and not layer.numbered]
    if len(set(given)) != len(given):
        raise ValueError(f"model: layer names must differ, got {sorted(n for n in given if given.count(n) > 1)}")
    taken = set(given)
    unnamed = []
    for layer in layers:
        # A numbered layer may come from another model, with a number that is taken here.
        if layer.name is None or (layer.numbered and layer.name in taken):
            unnamed.append(layer)
        else:
            taken.add(layer.name)
    for layer in unnamed:
        kind = snake_case(_KEPT_NAMES.get(type(layer).__name__, type(layer).__name__))
        number = next(i for i in range(1, len(taken) + 2) if f"{kind}_{i}" not in taken)
        layer.name, layer.numbered = f"{kind}_{number}", True
        taken.add(layer.name)
