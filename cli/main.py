"""The `embpress` command."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

COMMANDS = {
    "compare": "Train the same DLRM with several methods: size, AUC and latency side by side.",
    "train": "Train one method with one seed.",
    "report": "Write a report from the records of a run folder.",
    "list": "Show the methods and their knobs.",
    "bench": "Measure speed on this machine.",
    "doctor": "Show what is installed and which backends answer.",
}


class Mistake(click.ClickException):
    """A mistake in what the user gave: one sentence, exit status 2."""

    exit_code = 2


class Commands(click.Group):
    """Loads a command's module when it is asked for, so that help does not wait for torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which a user needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of module `embpress.cli.<name>`."""
        if cmd_name not in COMMANDS:
            return None
        return importlib.import_module(f"embpress.cli.{cmd_name}").command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Names the nearest command for one that is not there."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from embpress.compressors.errors import nearest

            raise Mistake(f"no command {args[0]!r}{nearest(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One line a command, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; a mistake of the user's becomes one sentence."""
        try:
            return super().invoke(ctx)
        except ValueError as error:
            from embpress.compressors.errors import InputError  # now, since help does not wait for torch

            if not isinstance(error, InputError) or ctx.params.get("debug"):
                raise
            raise Mistake(str(error)) from None
        except BrokenPipeError:
            # the reader of a pipe went away (`| head`): no traceback at exit either
            sys.stderr.close()
            ctx.exit(0)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="embpress")
@click.option("--debug", is_flag=True, help="Show the traceback of a mistake.")
def main(debug: bool) -> None:
    """Shrink the embedding tables of recommendation models, and see what it costs.

    \b
    Start with
      embpress compare                                  five methods on synthetic click data
      embpress compare clicks.csv --label click --ratio 16
      embpress compare --help                           examples for your own files
    """


if __name__ == "__main__":
    main()
