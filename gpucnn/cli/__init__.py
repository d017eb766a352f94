"""The command line: `gpucnn train | evaluate | kernels | bench | info`."""

from gpucnn.cli.group import main

__all__ = ["main"]
