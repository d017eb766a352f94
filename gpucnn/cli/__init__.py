"""The command line: `gpucnn train | evaluate | data | kernels | bench | info`."""

from gpucnn.cli.group import main

__all__ = ["main"]
