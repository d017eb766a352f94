#!/usr/bin/env python3
"""`gpucnn bench` from a checkout without installing it: numpy and click are enough, torch is what it compares with.

python scripts/benchmark.py cpu --json cpu.json
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # not needed where gpucnn is installed

from gpucnn.cli import main

if __name__ == "__main__":
    main(["bench", *sys.argv[1:]], prog_name="gpucnn")
