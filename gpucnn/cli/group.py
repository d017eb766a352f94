"""The command group: one-line errors, exit codes 0 (done), 1 (failed), 2 (wrong usage), 130 (interrupted)."""

from __future__ import annotations

import logging
import sys
import warnings
from importlib import import_module
from typing import Any, TextIO

import click

from gpucnn import __version__
from gpucnn.errors import GpucnnError

_COMMANDS = ("train", "evaluate", "predict", "data", "explain", "compare", "check", "kernels", "bench", "info")
"""Each a module of this folder, in the order of the help."""


class _Commands(click.Group):
    """Commands loaded on first use, with library errors shown as one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"gpucnn.cli.{cmd_name}").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (GpucnnError, ValueError, TypeError, OSError, MemoryError) as error:
            if ctx.params.get("traceback"):
                raise
            raise click.ClickException(" ".join(str(error).split("\n")) or type(error).__name__) from error
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            sys.exit(130)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show a warning as one line, without the place in the library that gave it."""
    click.echo(f"Warning: {message}", err=True)


@click.command(cls=_Commands, context_settings={"auto_envvar_prefix": "GPUCNN", "help_option_names": ["-h", "--help"]})
@click.option("--traceback", is_flag=True, help="Show where an error came from.")
@click.option("--verbose", is_flag=True, help="Log what is chosen and why, on stderr.")
@click.version_option(__version__, package_name="gpucnn")
def main(traceback: bool, verbose: bool) -> None:
    """Convolutional networks on CUDA kernels of their own."""
    click.get_current_context().with_resource(warnings.catch_warnings())
    warnings.showwarning = _show_warning
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(name)s: %(message)s", stream=sys.stderr)
