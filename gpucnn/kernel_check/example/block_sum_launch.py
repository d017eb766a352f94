"""One launch of block_sum.cu, for `gpucnn check block_sum.cu --launch block_sum_launch.py`."""

import numpy as np

N, BLOCK = 1000, 256
x = np.random.default_rng(0).standard_normal(N).astype("float32")

launch = {
    "entry": "block_sum",  # may be left out where the file has one entry
    "grid": [4],  # blocks: one to three numbers
    "block": BLOCK,  # threads
    "shared_bytes": 0,  # dynamic shared memory
    "macros": {"BLOCK": BLOCK},  # #define lines before the text
    "arguments": {  # by the parameters' names
        # `const` pointers are inputs. Others are outputs: every element must be written; add "inout": True to one that
        # the kernel reads first. `expected` is optional, `tolerance` a fraction of its largest value.
        "y": {"shape": [4], "expected": np.add.reduceat(x, range(0, N, BLOCK)), "tolerance": 1e-5},
        # An array; or {"shape": [N], "fill": "random", "seed": 0}: zeros, ones, arange, random, nan or a number.
        "x": x,
        "n": N,
    },
    "ignore": [],  # kinds of findings to leave out, such as "race-global"
}
