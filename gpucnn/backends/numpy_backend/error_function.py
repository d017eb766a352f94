"""The complementary error function, which NumPy lacks.

Source: the rational approximations of FreeBSD's msun, s_erf.c (Sun Microsystems, 1993).
"""

from __future__ import annotations

import numpy as np

_BLOCK = 16 * 1024
"""Elements worked on together: their many intermediates stay in the caches."""

_Ratio = tuple[tuple[float, ...], tuple[float, ...]]
"""Numerator and denominator of a rational function, constant term first."""

_ERX = 8.45062911510467529297e-01
_NEAR_ZERO: _Ratio = (
    (1.28379167095512558561e-01, -3.25042107247001499370e-01, -2.84817495755985104766e-02,
     -5.77027029648944159157e-03, -2.37630166566501626084e-05),
    (1.0, 3.97917223959155352819e-01, 6.50222499887672944485e-02, 5.08130628187576562776e-03,
     1.32494738004321644526e-04, -3.96022827877536812320e-06),
)  # fmt: skip
_NEAR_ONE: _Ratio = (
    (-2.36211856075265944077e-03, 4.14856118683748331666e-01, -3.72207876035701323847e-01, 3.18346619901161753674e-01,
     -1.10894694282396677476e-01, 3.54783043256182359371e-02, -2.16637559486879084300e-03),
    (1.0, 1.06420880400844228286e-01, 5.40397917702171048937e-01, 7.18286544141962662868e-02,
     1.26171219808761642112e-01, 1.36370839120290507362e-02, 1.19844998467991074170e-02),
)  # fmt: skip
_MIDDLE: _Ratio = (
    (-9.86494403484714822705e-03, -6.93858572707181764372e-01, -1.05586262253232909814e01, -6.23753324503260060396e01,
     -1.62396669462573470355e02, -1.84605092906711035994e02, -8.12874355063065934246e01, -9.81432934416914548592e00),
    (1.0, 1.96512716674392571292e01, 1.37657754143519042600e02, 4.34565877475229228821e02, 6.45387271733267880336e02,
     4.29008140027567833386e02, 1.08635005541779435134e02, 6.57024977031928170135e00, -6.04244152148580987438e-02),
)  # fmt: skip
_TAIL: _Ratio = (
    (-9.86494292470009928597e-03, -7.99283237680523006574e-01, -1.77579549177547519889e01, -1.60636384855821916062e02,
     -6.37566443368389627722e02, -1.02509513161107724954e03, -4.83519191608651397019e02),
    (1.0, 3.03380607434824582924e01, 3.25792512996573918826e02, 1.53672958608443695994e03, 3.19985821950859553908e03,
     2.55305040643316442583e03, 4.74528541206955367215e02, -2.24409524465858183362e01),
)  # fmt: skip


def erfc(x: np.ndarray) -> np.ndarray:
    """Return 2/sqrt(pi) * integral of exp(-t^2) from x to infinity, in the type of x; NaN passes on.

    Computed in float64 with an error below 1e-15.
    """
    y = np.empty(x.shape, x.dtype)
    source, target = x.reshape(-1), y.reshape(-1)
    for start in range(0, x.size, _BLOCK):
        part = slice(start, start + _BLOCK)
        target[part] = _erfc_block(source[part].astype(np.float64, copy=False))
    return y


def _erfc_block(x: np.ndarray) -> np.ndarray:
    size = np.abs(x)
    y = np.where(np.isnan(x), x, 0.0)  # of |x|; from 28 on, 0 is the nearest number
    intervals = (
        (0.0, 0.84375, _near_zero),
        (0.84375, 1.25, _near_one),
        (1.25, 1 / 0.35, _middle),
        (1 / 0.35, 28.0, _tail),
    )
    for low, high, approximate in intervals:
        inside = np.flatnonzero((size >= low) & (size < high))
        if inside.size:
            y[inside] = approximate(size[inside])
    np.subtract(2.0, y, out=y, where=x < 0)
    return y


def _near_zero(z: np.ndarray) -> np.ndarray:
    y: np.ndarray = 1.0 - (z + z * _ratio(z * z, _NEAR_ZERO))
    return y


def _near_one(z: np.ndarray) -> np.ndarray:
    return (1.0 - _ERX) - _ratio(z - 1.0, _NEAR_ONE)


def _middle(z: np.ndarray) -> np.ndarray:
    return _scaled(z, _MIDDLE)


def _tail(z: np.ndarray) -> np.ndarray:
    return _scaled(z, _TAIL)


def _scaled(z: np.ndarray, coefficients: _Ratio) -> np.ndarray:
    """erfc(z) = exp(-z^2 - 0.5625 + R(1/z^2)) / z."""
    square = z * z
    scaled: np.ndarray = np.exp(-square - 0.5625 + _ratio(1.0 / square, coefficients)) / z
    return scaled


def _ratio(s: np.ndarray, coefficients: _Ratio) -> np.ndarray:
    numerator, denominator = (_polynomial(s, c) for c in coefficients)
    numerator /= denominator
    return numerator


def _polynomial(s: np.ndarray, coefficients: tuple[float, ...]) -> np.ndarray:
    """Horner's rule."""
    total = np.full_like(s, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total *= s
        total += coefficient
    return total
