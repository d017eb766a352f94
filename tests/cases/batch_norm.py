"""Shapes of batch normalisation: rows and channels around a warp of channels, a block of rows and a chunk of rows."""

from __future__ import annotations

from collections.abc import Callable

from gpucnn.specs import BatchNormGradientSpec, BatchNormSpec

SIZES = {
    "one_channel_two_rows": (2, 1),
    "one_channel_chunk": (2048, 1),
    "one_channel_chunk_and_one": (2049, 1),
    "few_channels": (50, 3),
    "few_channels_chunks": (1200, 3),
    "lenet": (3 * 8 * 8, 6),
    "a_warp": (70, 32),
    "a_warp_chunk": (64, 32),
    "a_warp_chunk_and_one": (65, 32),
    "a_warp_and_one": (67, 33),
    "many_channels": (9, 100),
    "many_channels_chunks": (200, 70),
    "many_chunks": (4200, 33),
}
"""(rows, channels)"""


def _forward(rows: int, channels: int) -> Callable[[str], BatchNormSpec]:
    return lambda dtype: BatchNormSpec(rows, channels, dtype, 1e-3, 0.25)


BATCH_NORM = {name: _forward(*sizes) for name, sizes in SIZES.items()}

WANTED = {
    "": (True, True, True),
    "_input_alone": (True, True, False),
    "_parameters_alone": (True, False, True),
    "_constant_statistics": (False, True, True),
    "_constant_statistics_input_alone": (False, True, False),
}
"""(batch_statistics, of_input, of_parameters)"""


def _backward(sizes: tuple[int, int], wanted: tuple[bool, bool, bool]) -> Callable[[str], BatchNormGradientSpec]:
    return lambda dtype: BatchNormGradientSpec(*sizes, *wanted, dtype, 1e-3)


# Of two rows the gradient cancels but for epsilon.
GRADIENT = {
    **{name: _backward((max(rows, 9), channels), WANTED[""]) for name, (rows, channels) in SIZES.items()},
    **{f"many_channels_chunks{name}": _backward(SIZES["many_channels_chunks"], of) for name, of in WANTED.items()},
}
