"""Defects of kernels/augment.cu that test_augment.py must notice: (name, file, original text, replacement)."""

from __future__ import annotations

_FILE = "augment.cu"

DEFECTS = [
    (
        "one place less",
        _FILE,
        "return (int)__umulhi(word, (unsigned)count);",
        "return (int)__umulhi(word, (unsigned)count - 1);",
    ),
    (
        "range that starts at nothing",
        _FILE,
        "change.top = ROW + draw(first.x, ROWS);",
        "change.top = draw(first.x, ROWS);",
    ),
    ("rows and columns from one word", _FILE, "COLUMN + draw(first.y, COLUMNS);", "COLUMN + draw(first.x, COLUMNS);"),
    ("flips of the other axis", _FILE, "FLIP_ROWS && first.z >= HALF", "FLIP_COLUMNS && first.z >= HALF"),
    ("mirrored by the wrong size", _FILE, "? Q - 1 - j : j", "? W - 1 - j : j"),
    (
        "swapped axes of the window",
        _FILE,
        "i = (int)(place / C) / Q, j = (int)(place / C) % Q",
        "i = (int)(place / C) % P, j = (int)(place / C) / P",
    ),
    ("value inside the first row", _FILE, "to[place] = real ?", "to[place] = real && h > 0 ?"),
    (
        "one random number for all images",
        _FILE,
        "const uint4 first = words(2 * image, stream, state);",
        "const uint4 first = words(0, stream, state);",
    ),
    ("words shared by neighbours", _FILE, "words(2 * image, stream, state)", "words(image, stream, state)"),
    ("step forgotten", _FILE, "(unsigned)(number >> 32), stream, state[2])", "(unsigned)(number >> 32), stream, 0u)"),
    ("stream forgotten", _FILE, "(unsigned)(number >> 32), stream,", "(unsigned)(number >> 32), 0u,"),
    ("erased in every image", _FILE, "KIND == ERASE && (long long)first.x < threshold", "KIND == ERASE"),
    ("rectangle too high", _FILE, "i < change.top + change.height", "i <= change.top + change.height"),
    ("last place never taken", _FILE, "draw(second.x, W - change.width + 1)", "draw(second.x, W - change.width)"),
    (
        "clockwise",
        _FILE,
        "change.sine = quarters & 2 ? -far_sine : far_sine;",
        "change.sine = quarters & 2 ? far_sine : -far_sine;",
    ),
    ("turned about the first pixel", _FILE, "down = 2LL * i - (H - 1)", "down = 2LL * i"),
    ("half of the angles", _FILE, "2u * turn + 1u) - turn", "2u * turn + 1u)"),
    ("quarters forgotten", _FILE, "const bool odd = quarters & 1;", "const bool odd = false;"),
    ("series too short", _FILE, "for (int k = 0; k < 5; ++k)", "for (int k = 3; k < 5; ++k)"),
    ("places cut, not rounded", _FILE, "(h + (1 << (DROPPED - 1))) >> DROPPED", "h >> DROPPED"),
    ("weights swapped", _FILE, "left + 1, c, (PLACES - below) * after, value)", "left + 1, c, below * after, value)"),
    ("neighbour of no weight counts", _FILE, "  if (weight == 0) return SPEC_ACC(0);\n", ""),
    ("removed barrier", _FILE, "  __syncthreads();\n", ""),
    ("dropped tail guard", _FILE, "    if (place >= IMAGE_Y) return;\n", ""),
    ("skipped last element", _FILE, "if (place >= IMAGE_Y) return;", "if (place >= IMAGE_Y - 1) return;"),
    ("images of the wrong size", _FILE, "(long long)image * IMAGE_Y;", "(long long)image * IMAGE_X;"),
]
