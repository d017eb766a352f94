"""Row F9: fork a child that saves checkpoints one after the other, kill it at a random time, see that one is whole.

The child is given time for at least one whole checkpoint first, however busy the machine is.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

from gpucnn.training.checkpoint import CHECKPOINT


def save_for_ever(path: Path, number: int) -> None:
    while True:
        number += 1
        arrays = {name: np.full(20_000, number, np.float32) for name in ("model/a", "model/b", "optimizer/a")}
        CHECKPOINT.write(path, arrays, {"number": number})


def main() -> None:
    path, tries = Path(sys.argv[1]), int(sys.argv[2])
    rng, number, within = random.Random(9), 0, 0
    CHECKPOINT.write(path, {"model/a": np.zeros(1, np.float32)}, {"number": 0})
    for _ in range(tries):
        child = os.fork()
        if not child:
            save_for_ever(path, number)
        written = path.stat().st_ino  # each checkpoint is a file of its own
        while path.stat().st_ino == written:
            assert os.waitpid(child, os.WNOHANG) == (0, 0), "the child ended by itself"
            time.sleep(0.0005)
        time.sleep(rng.uniform(0, 0.01))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        arrays, metadata = CHECKPOINT.read(path)
        assert metadata["number"] > number, "the newest complete one"
        number = metadata["number"]
        assert all((array == number).all() for array in arrays.values())
        within += any(p.name.startswith(".") for p in path.parent.iterdir())
    print(number, within)


main()
