"""The command line: `gpucnn train | evaluate | kernels | info`."""

from gpucnn.cli.group import main

__all__ = ["main"]
