"""Draw many hand-written digits at once: bend the strokes of the glyphs, ink them, add noise.

Only additions, multiplications, divisions and square roots touch the random bits. IEEE arithmetic rounds these alike
everywhere, so a seed gives the same pictures on every machine and with every NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpucnn.datasets.digit_glyphs import MAX_POINTS, SEGMENTS, glyph_table

SIZE = 28
_LATTICE = 4
_BLOCK = 128

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Hand:
    """How far the writer strays; every value is the largest deviation, zero means none.

    Attributes:
        width, height: pixels of the glyph's box, (mean, deviation).
        shift: displacement of the centre, pixels.
        slant: horizontal shear, as a slope.
        turn: half-angle tangent of the rotation.
        wobble: displacement of a control point, in units of the box.
        bend: elastic displacement at the nodes of the lattice, in units of the box.
        radius: half the thickness of the stroke in pixels, (mean, deviation).
        pressure: relative change of the radius from one end of the stroke to the other.
        ink: grey level of full ink, (mean, deviation).
        grain: amplitude of the noise in grey levels.
    """

    width: tuple[float, float] = (15.0, 4.0)
    height: tuple[float, float] = (18.0, 3.5)
    shift: float = 3.8
    slant: float = 0.4
    turn: float = 0.14
    wobble: float = 0.035
    bend: float = 0.085
    radius: tuple[float, float] = (1.2, 0.5)
    pressure: float = 0.35
    ink: tuple[float, float] = (225.0, 30.0)
    grain: float = 24.0


class UniformStream:
    """Endless uniform numbers; the first n rows do not depend on how many are drawn, nor in which portions."""

    def __init__(self, seed: np.random.SeedSequence) -> None:
        # Raw bits of a bit generator are stable across NumPy's versions; Generator's methods are not promised to be.
        self._bits = np.random.PCG64(seed)

    def integers(self, rows: int, columns: int) -> NDArray[np.uint64]:
        """Return uint64 (rows, columns), uniform over all 64-bit values."""
        return np.asarray(self._bits.random_raw(rows * columns), np.uint64).reshape(rows, columns)

    def signed(self, rows: int, columns: int) -> Floats:
        """Return float32 (rows, columns) in [-1, 1), uniform."""
        top = (self.integers(rows, columns) >> np.uint64(40)).astype(np.float32)
        return np.asarray(top * np.float32(2.0**-23) - np.float32(1), np.float32)

    def octets(self, rows: int, columns: int) -> NDArray[np.uint8]:
        """Return uint8 (rows, columns), uniform; columns must be a multiple of 8."""
        return self.integers(rows, columns // 8).astype("<u8").view(np.uint8)


def draw_digits(count: int, seed: np.random.SeedSequence, hand: Hand) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw digits, white ink on black.

    The first n pictures of a seed are the same for every ``count >= n``. Time and memory grow with ``count``; about
    0.2 ms and 784 bytes each.

    Args:
        count: number of pictures, at least 0.
        seed: source of all randomness.
        hand: how far the writing strays.

    Returns:
        uint8 images (count, 28, 28) and uint8 labels (count,), each class equally likely.
    """
    labels = np.empty(count, np.uint8)
    images = np.empty((count, SIZE, SIZE), np.uint8)
    choices, shapes, grains = (UniformStream(child) for child in seed.spawn(3))
    for start in range(0, count, _BLOCK):
        stop = min(start + _BLOCK, count)
        rows = stop - start
        labels[start:stop], styles = _choose(choices.integers(rows, 2))
        vertices, radius, level, amplitude = _write(styles, shapes, hand)
        ink = _ink(vertices, glyph_table().starts[styles], radius) * level
        octets = grains.octets(rows, 2 * SIZE * SIZE).reshape(rows, 2, SIZE, SIZE).astype(np.float32)
        noise = (octets[:, 0] + octets[:, 1] - np.float32(255)) * (amplitude / np.float32(255))
        images[start:stop] = np.clip(ink + noise + np.float32(0.5), 0, 255)
    return images, labels


def _choose(bits: NDArray[np.uint64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pick a digit and one of its styles for each row of two random words."""
    first = glyph_table().first
    digits = (bits[:, 0] % np.uint64(10)).astype(np.int64)
    styles = (bits[:, 1] % np.diff(first)[digits].astype(np.uint64)).astype(np.int64)
    return digits.astype(np.uint8), first[digits] + styles


def _write(styles: NDArray[np.int64], stream: UniformStream, hand: Hand) -> tuple[Floats, Floats, Floats, Floats]:
    """Return vertices (N, V, 2) in pixels, radii (N, SEGMENTS), ink level and grain (N, 1, 1)."""
    table = glyph_table()
    rows = len(styles)
    random = stream.signed(rows, 20 + 2 * MAX_POINTS + 2 * _LATTICE**2)
    # The mean of two uniform numbers: most hands are moderate, and the extremes stay bounded.
    common = (random[:, 0:10] + random[:, 10:20]) * np.float32(0.5)
    width, height, right, down, slant, turn, thickness, pressure, level, grain = common.T[:, :, None]

    points = table.points[styles]
    points += random[:, 20 : 20 + 2 * MAX_POINTS].reshape(rows, MAX_POINTS, 2) * np.float32(hand.wobble)
    vertices = np.zeros((rows, table.weights.shape[1], 2), np.float32)
    for point in range(MAX_POINTS):
        vertices += table.weights[styles, :, point, None] * points[:, point, None, :]
    nodes = random[:, 20 + 2 * MAX_POINTS :].reshape(rows, _LATTICE, _LATTICE, 2) * np.float32(hand.bend)
    vertices += _interpolate(nodes, vertices)

    x = (vertices[:, :, 0] - np.float32(0.5)) * _vary(hand.width, width)
    y = (vertices[:, :, 1] - np.float32(0.5)) * _vary(hand.height, height)
    x = x - y * (slant * np.float32(hand.slant))
    # Rotation from the tangent of half its angle needs no sine, which machines round differently.
    tangent = turn * np.float32(hand.turn)
    square = tangent * tangent
    cosine = (1 - square) / (1 + square)
    sine = 2 * tangent / (1 + square)
    centre = np.float32((SIZE - 1) / 2)
    vertices[:, :, 0] = cosine * x - sine * y + centre + right * np.float32(hand.shift)
    vertices[:, :, 1] = sine * x + cosine * y + centre + down * np.float32(hand.shift)

    along = np.linspace(-1, 1, SEGMENTS, dtype=np.float32)
    radius = _vary(hand.radius, thickness) * (1 + along * pressure * np.float32(hand.pressure))
    return vertices, radius, _vary(hand.ink, level)[:, :, None], (np.abs(grain) * np.float32(hand.grain))[:, :, None]


def _vary(mean_and_deviation: tuple[float, float], random: Floats) -> Floats:
    mean, deviation = mean_and_deviation
    return np.asarray(np.float32(mean) + np.float32(deviation) * random, np.float32)


def _interpolate(nodes: Floats, vertices: Floats) -> Floats:
    """Evaluate a displacement field (N, L, L, 2) over the unit square at vertices (N, V, 2), smoothly between nodes."""
    position = np.clip(vertices, 0, 1) * np.float32(_LATTICE - 1)
    cell = np.minimum(position.astype(np.int64), _LATTICE - 2)
    offset = position - cell.astype(np.float32)
    offset = offset * offset * (3 - 2 * offset)
    row = np.arange(len(nodes))[:, None]
    column, line = cell[:, :, 0], cell[:, :, 1]
    right, down = offset[:, :, 0:1], offset[:, :, 1:2]
    upper = nodes[row, line, column] * (1 - right) + nodes[row, line, column + 1] * right
    lower = nodes[row, line + 1, column] * (1 - right) + nodes[row, line + 1, column + 1] * right
    return np.asarray(upper * (1 - down) + lower * down, np.float32)


def _ink(vertices: Floats, starts: NDArray[np.int64], radius: Floats) -> Floats:
    """Cover pixels by how far they lie inside the stroke: 1 within radius - 1/2 of its line, 0 beyond radius + 1/2.

    Each segment looks only at the pixels of a small window around its middle, which is what makes this fast.
    """
    rows = np.arange(len(vertices))[:, None]
    begin = vertices[rows, starts]
    step = vertices[rows, starts + 1] - begin
    length = step[:, :, 0] * step[:, :, 0] + step[:, :, 1] * step[:, :, 1]
    middle = begin + step * np.float32(0.5)

    reach = int(np.ceil((np.sqrt(length) * np.float32(0.5) + radius).max() + 1))
    side = 2 * reach + 1
    stride = SIZE + 2 * side
    corner = np.clip(np.rint(middle).astype(np.int64) - reach, -side, SIZE)
    offsets = np.arange(side, dtype=np.float32)
    # Vectors from the beginning of the segment to the columns (dx) and rows (dy) of its window.
    dx = (corner[:, :, 0] - begin[:, :, 0])[:, :, None] + offsets
    dy = (corner[:, :, 1] - begin[:, :, 1])[:, :, None] + offsets
    dx = dx.astype(np.float32)[:, :, None, :]
    dy = dy.astype(np.float32)[:, :, :, None]

    unit = step / np.maximum(length, np.float32(1e-12))[:, :, None]
    part = dx * unit[:, :, 0, None, None] + dy * unit[:, :, 1, None, None]
    np.clip(part, 0, 1, out=part)
    away_x = dx - part * step[:, :, 0, None, None]
    away_y = dy - part * step[:, :, 1, None, None]
    away_x *= away_x
    away_y *= away_y
    away_x += away_y
    depth = radius[:, :, None, None] - np.sqrt(away_x, out=away_x)

    # Windows may hang over the edge, so the canvas has a margin of one window.
    canvas = np.full((len(vertices), stride, stride), -1, np.float32)
    origin = (rows * stride + corner[:, :, 1] + side) * stride + corner[:, :, 0] + side
    window = np.arange(side)[:, None] * stride + np.arange(side)
    np.maximum.at(canvas.reshape(-1), (origin[:, :, None, None] + window).reshape(-1), depth.reshape(-1))
    inside = canvas[:, side : side + SIZE, side : side + SIZE]
    return np.asarray(np.clip(inside + np.float32(0.5), 0, 1), np.float32)
