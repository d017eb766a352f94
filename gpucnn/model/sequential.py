"""Sequential: a model whose layers stand one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from gpucnn.autograd import Tensor
from gpucnn.layers import Layer, chain
from gpucnn.layers.layer import Shape
from gpucnn.model.model import Model


class Sequential(Model):
    """Layers one after another. Some of them run as one, with the same results: `fused_layers` names them.

    Args:
        layers: to begin with; more by `add`.
        name, dtype, data_format: as Model.

    >>> from gpucnn.layers import Dense
    >>> model = Sequential([Dense(3, input_shape=(2,))])
    >>> sum(p.size for p in model.parameters())
    9
    """

    def __init__(
        self,
        layers: Sequence[Layer] = (),
        *,
        name: str | None = None,
        dtype: str = "float32",
        data_format: str = "channels_last",
    ) -> None:
        super().__init__(name=name, dtype=dtype, data_format=data_format)
        self.layers: list[Layer] = []
        for layer in layers:
            self._append(layer)
        self._build_if_shaped()

    def add(self, layer: Layer) -> None:
        """Append a layer; the model is built as soon as its input shape is known.

        Raises:
            TypeError: not a layer.
            ValueError: the layer does not fit the one before it.
        """
        self._append(layer)
        try:
            self._build_if_shaped()
        except BaseException:
            self.layers.pop()
            raise

    def _append(self, layer: Layer) -> None:
        if not isinstance(layer, Layer):
            raise TypeError(f"Sequential: expected a layer, got {type(layer).__name__}")
        if any(layer is other for other in self.layers):
            raise ValueError(f"Sequential: the layer {layer.label} is in the model already; make another one")
        self.layers.append(layer)

    def _build_if_shaped(self) -> None:
        shape = self._sample_shape or (self.layers[0].input_shape if self.layers else None)
        if shape is not None:
            self.build(shape)
            self.built = True

    def trace(self, input_shape: Shape) -> Shape:
        return chain.build(self.layers, input_shape)

    def call(self, x: Tensor) -> Tensor:
        return chain.run(self.layers, x)

    def stage(self, at: int, shape: Shape) -> tuple[list[Layer], Callable[[Tensor], Tensor]]:
        """Return the layers that run as one from a place in `layers` on, one or several, and what runs them.

        Args:
            at: place of the first, from 0.
            shape: of one sample of its input.
        """
        return chain.stage(self.layers, at, shape)

    def fused_layers(self) -> list[tuple[str, ...]]:
        """Return the names of the layers that run as one, for each such group; see `gpucnn.layers.fusion`.

        Raises:
            ValueError: the model is not built.
        """
        self._require_built("fused_layers")
        groups, shape, at = [], self._sample_shape or (), 0
        while at < len(self.layers):
            group, _ = self.stage(at, shape)
            if len(group) > 1:
                groups.append(tuple(layer.label for layer in group))
            for layer in group:
                shape = layer.output_shape(shape)
            at += len(group)
        return groups

    def output_shape(self, input_shape: Shape) -> Shape:
        return chain.output_shape(self.layers, input_shape)

    def rows(self) -> Iterable[tuple[str, str, Shape | None, int]]:
        shape = self._sample_shape or ()
        for layer in self.layers:
            shape = layer.output_shape(shape)
            yield layer.label, type(layer).__name__, shape, sum(p.size for p in layer.parameters())
