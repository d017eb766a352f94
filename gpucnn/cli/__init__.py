"""The command line: `gpucnn --help` lists the commands."""

from gpucnn.cli.group import main

__all__ = ["main"]
