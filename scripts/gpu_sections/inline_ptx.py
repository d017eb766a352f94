"""Every wrapper around inline PTX, on the device, against its definition in NumPy.

Without a GPU only the portable branches of kernels/mma.cuh and kernels/common.cuh run; this section runs the others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from gpu_sections import fragments as f
from gpu_sections.outcome import Outcome
from gpu_sections.settings import Settings

_KERNELS = Path(__file__).with_suffix(".cu")
_THREADS = 256


class Prober:
    """Launches the entries of inline_ptx.cu."""

    def __init__(self, settings: Settings) -> None:
        from gpucnn.kernel_source import compose

        self._device = settings.activate().device
        self.ties_to_even = self._device.host_memory or self._device.limits.capability >= 90
        """How floats are rounded to tf32; else away from zero."""
        self._source = compose(str(_KERNELS), {})

    def __call__(
        self, entry: str, output: str, like: np.ndarray, blocks: int, threads: int, **operands: object
    ) -> np.ndarray:
        """Launch an entry; return what it wrote to `output`, an array of the shape and dtype of `like`."""
        from gpucnn.devices.launch_guard import GuardedKernel

        device = self._device
        kernel = GuardedKernel(device, self._source, f"probe_{entry}")
        arrays = {n: device.to_device(v) if isinstance(v, np.ndarray) else v for n, v in operands.items()}
        written = device.empty(like.shape, like.dtype)
        kernel((blocks, 1, 1), (threads, 1, 1), {output: written, **arrays})
        return device.to_host(written)


def run(settings: Settings, outcome: Outcome) -> None:
    """Check tensor cores, ldmatrix, cp.async, stores and conversions."""
    prober, random = Prober(settings), np.random.default_rng(2024)
    tiles = 4 if settings.tiny else 512
    table = outcome.table(
        "mma against float64: error of the worst element in units of 2^-24 of its sum of magnitudes",
        ["instruction", "largest error", "allowed", "subnormal operands kept"],
    )
    half, bfloat = (f.to_half, f.from_half, f.left_16, f.right_16), (f.to_bfloat, f.from_bfloat, f.left_16, f.right_16)
    tf32 = (partial(f.to_tf32, ties_to_even=prober.ties_to_even), f.floats_of, f.left_8, f.right_8)
    for entry, k, smallest, kind in (
        ("mma_m16n8k8_tf32", 8, 2.0**-140, tf32),
        ("mma_m16n8k16_f16", 16, 2.0**-20, half),
        ("mma_m16n8k16_bf16", 16, 2.0**-130, bfloat),
    ):
        multiply = _Multiply(prober, entry, k, *kind)
        table.add(entry, *_check_multiply(multiply, outcome, random, tiles, smallest))
        if entry == "mma_m16n8k8_tf32":
            outcome.note(f"{entry} cuts off what tf32 has no room for: {_cuts_operands(multiply, random, tiles)}")
    for name, count in (("ldmatrix_x4", 4), ("ldmatrix_x2", 2)):
        for transposed in (False, True):
            _check_matrices(prober, outcome, random, f"{name}{'_trans' if transposed else ''}", count, transposed)
    for size in (16, 8, 4):
        _check_copy(prober, outcome, random, size)
    _check_wanted_copy(prober, outcome, random)
    for size in (4, 8, 16, 32):
        x = random.integers(0, 2**32, (64, size // 4), dtype=np.uint32)
        wrong = int((prober(f"store_{size}", "y", x, 2, 32, x=x) != x).any(axis=1).sum())
        outcome.check(f"store of {size} bytes", wrong == 0, f"{wrong} of 64 differ" if wrong else "")
    _check_conversions(prober, outcome, random, 1 << (12 if settings.tiny else 20))


class _Multiply:
    """One mma instruction on matrices: rounds the operands, packs fragments, launches, and knows the exact result."""

    def __init__(
        self,
        prober: Prober,
        entry: str,
        k: int,
        rounded: Callable[[np.ndarray], np.ndarray],
        value: Callable[[np.ndarray], np.ndarray],
        left: Callable[[np.ndarray], np.ndarray],
        right: Callable[[np.ndarray], np.ndarray],
    ) -> None:
        self.entry, self.k = entry, k
        self._prober, self._rounded, self._value, self._left, self._right = prober, rounded, value, left, right

    def __call__(
        self, a: np.ndarray, b: np.ndarray, c: np.ndarray, rounded: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the device's fragments, the exact ones, and the sums of the magnitudes that each is made of."""
        rounding = rounded or self._rounded
        a_bits, b_bits, c = rounding(a), rounding(b), np.ascontiguousarray(c, np.float32)
        got = self._prober(
            self.entry, "d", f.accumulators(c), len(a), 32,
            a=np.ascontiguousarray(self._left(a_bits)), b=np.ascontiguousarray(self._right(b_bits)),
            c=np.ascontiguousarray(f.accumulators(c)),
        )  # fmt: skip
        wide_a, wide_b = self._value(a_bits).astype(np.float64), self._value(b_bits).astype(np.float64)
        with np.errstate(invalid="ignore"):
            exact, sizes = wide_a @ wide_b + c, np.abs(wide_a) @ np.abs(wide_b) + np.abs(c)
        return got, f.accumulators(exact), f.accumulators(sizes)


def _check_multiply(
    multiply: _Multiply, outcome: Outcome, random: np.random.Generator, tiles: int, smallest: float
) -> tuple[float, float, str]:
    """Check one instruction; return its largest error, the error allowed, and whether subnormal operands survive."""
    k, entry = multiply.k, multiply.entry

    def shapes(make: Callable[[tuple[int, ...]], np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        a, b, c = (make((tiles, *shape)) for shape in ((16, k), (k, 8), (16, 8)))
        return a.astype(np.float32), b.astype(np.float32), c.astype(np.float32)

    # Small integers: every sum is exact in any order, so a single wrong place in a fragment shows as a wrong number.
    got, exact, _ = multiply(*shapes(lambda shape: random.integers(-9, 10, shape)))
    wrong = int((got != exact).sum())
    outcome.check(f"{entry}: integers exactly", wrong == 0, f"{wrong} of {got.size} elements differ" if wrong else "")

    got, exact, sizes = multiply(*shapes(random.standard_normal))
    error = float(np.max(np.abs(got - exact) / sizes)) * 2.0**24
    # Each of the k + 1 terms may lose a whole unit in the last place, for tensor cores cut sums off.
    allowed = 2.0 * (k + 1)
    outcome.check(f"{entry}: normal numbers", error <= allowed, f"largest error {error:.3g}, allowed {allowed:.3g}")

    a, b, c = shapes(random.standard_normal)
    a[0, 3, 5], b[-1, 2, 6], a[-1, 9, 0] = np.inf, np.nan, -np.inf
    got, exact, _ = multiply(a, b, c)
    infinite = np.isinf(exact)
    same = np.array_equal(np.isnan(got), np.isnan(exact)) and np.array_equal(got[infinite], exact[infinite])
    outcome.check(f"{entry}: infinities and NaN", same, "" if same else "they stand at other places than they should")

    a, b, c = (np.zeros_like(m) for m in (a, b, c))
    a[:, 0, 0], b[:, 0, 0] = smallest, 1.0
    got, exact, _ = multiply(a, b, c)
    return error, allowed, "yes" if np.array_equal(got, exact) else "no"


def _cuts_operands(multiply: _Multiply, random: np.random.Generator, tiles: int) -> str:
    """Say whether unrounded operands give the very result of truncated ones, as the emulated device assumes."""
    a, b = (random.standard_normal((tiles, *shape)).astype(np.float32) for shape in ((16, 8), (8, 8)))
    c = np.zeros((tiles, 16, 8), np.float32)
    plain, _, _ = multiply(a, b, c, rounded=f.bits_of)
    cut, _, _ = multiply(a, b, c, rounded=lambda values: f.bits_of(values) & np.uint32(0xFFFFE000))
    return "yes" if np.array_equal(plain, cut) else "no"


def _check_matrices(
    prober: Prober, outcome: Outcome, random: np.random.Generator, entry: str, count: int, transposed: bool
) -> None:
    rows = random.integers(0, 2**16, (64, 8)).astype(np.uint16)
    place = random.permutation(64)[:32].astype(np.int32)  # the rows of a matrix need not be neighbours
    expected = f.loaded_matrices(rows[place[: 8 * count]].reshape(count, 8, 8), transposed)
    words = f.pack_pairs(rows[:, 0::2], rows[:, 1::2])
    got = prober(entry, "fragments", expected, 1, 32, rows=words, place=place)
    wrong = int((got != expected).sum())
    outcome.check(entry, wrong == 0, f"{wrong} of {got.size} registers differ" if wrong else "")


def _check_copy(prober: Prober, outcome: Outcome, random: np.random.Generator, size: int) -> None:
    x = random.integers(0, 2**32, (64, size // 4), dtype=np.uint32)
    valid = (np.arange(64) % 3 != 1).astype(np.int32)
    expected = np.where(valid[:, None] != 0, x, np.uint32(0))
    got = prober(f"cp_async_{size}", "y", expected, 1, 32, x=x, valid=valid)
    wrong = int((got != expected).any(axis=1).sum())
    outcome.check(f"cp_async_{size}, two groups", wrong == 0, f"{wrong} of 64 copies differ" if wrong else "")


def _check_wanted_copy(prober: Prober, outcome: Outcome, random: np.random.Generator) -> None:
    x = random.integers(0, 2**32, (64, 4), dtype=np.uint32)
    valid, wanted = ((np.arange(64) % n != 1).astype(np.int32) for n in (3, 5))
    copied = np.where(valid[:, None] != 0, x, np.uint32(0))
    expected = np.where(wanted[:, None] != 0, copied, np.uint32(0xABABABAB))
    got = prober("cp_async_16_if", "y", expected, 1, 32, x=x, valid=valid, wanted=wanted)
    wrong = int((got != expected).any(axis=1).sum())
    outcome.check("cp_async_16_if, two groups", wrong == 0, f"{wrong} of 64 copies differ" if wrong else "")


def _check_conversions(prober: Prober, outcome: Outcome, random: np.random.Generator, count: int) -> None:
    def convert(entry: str, bits: np.ndarray) -> np.ndarray:
        blocks = -(-len(bits) // _THREADS)
        return prober(entry, "y", bits, blocks, _THREADS, x=bits, count=len(bits))

    def compare(entry: str, x: np.ndarray, got: np.ndarray, expected: np.ndarray, value: Callable) -> None:
        nan = np.isnan(value(expected))  # the payload of a NaN is no promise
        wrong = np.flatnonzero((nan != np.isnan(value(got))) | (~nan & (got != expected)))
        detail = ""
        for i in wrong[:1]:
            detail = f"{len(wrong)} differ, the first turns {x[i]:#010x} into {got[i]:#x}, not {expected[i]:#x}"
        outcome.check(f"{entry}, {len(x):,} patterns", not len(wrong), detail)

    halves = np.arange(1 << 16, dtype=np.uint32)
    compare("half_to_float", halves, convert("half_to_float", halves), f.bits_of(f.from_half(halves)), f.floats_of)

    # Random patterns reach every exponent; the others stand on, just below and just above every tie of every exponent.
    signs_and_exponents = np.arange(512, dtype=np.uint32)[:, None] << 23
    ties = [(n << dropped) + half + nudge for dropped, half in ((13, 1 << 12), (16, 1 << 15)) for n in (0, 1, 6, 7)
            for nudge in (-1, 0, 1)]  # fmt: skip
    edges = (signs_and_exponents + np.array([0, 1, 0x7FFFFF, *ties], np.uint32)).ravel().astype(np.uint32)
    floats = np.concatenate([edges, random.integers(0, 2**32, count, dtype=np.uint32)])
    values = f.floats_of(floats)
    halved, brained = f.to_half(values).astype(np.uint32), f.to_bfloat(values).astype(np.uint32)
    compare("float_to_half", floats, convert("float_to_half", floats), halved, f.from_half)
    compare("float_to_bfloat", floats, convert("float_to_bfloat", floats), brained, f.from_bfloat)
    rounded = f.to_tf32(values, ties_to_even=prober.ties_to_even)
    compare("float_to_tf32", floats, convert("float_to_tf32", floats), rounded, f.floats_of)
