"""The `embpress` command."""

from __future__ import annotations

import ast
import errno
import importlib
import os
import sys
from typing import Any

import click

from embpress.kernels import found


class Mistake(click.ClickException):
    """A mistake in what the user gave: one sentence, exit status 2."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        # names of files may hold what no terminal and no log can show
        super().__init__(message.encode("utf-8", "backslashreplace").decode())


def commands() -> dict[str, str]:
    """The commands and what each does: files of this folder with a function `command`, read and not imported.

    A file with `_` in its name holds a part of a command.
    """
    texts = {}
    for name in found.names("embpress.cli"):
        for node in found.tree("embpress.cli", name).body:
            if isinstance(node, ast.FunctionDef) and node.name == "command" and "_" not in name:
                texts[name] = (ast.get_docstring(node) or "").split("\n")[0]
    return texts


class Interrupted(click.ClickException):
    """Ctrl-C: one sentence, and the exit status that shells give an interrupted program."""

    exit_code = 130

    def show(self, file: Any = None) -> None:
        """The sentence, on standard error; it is no error."""
        click.echo(self.format_message(), err=True)


class Commands(click.Group):
    """Loads a command's module when it is asked for, so that help does not wait for torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """By name."""
        return list(commands())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of module `embpress.cli.<name>`."""
        if cmd_name not in commands():
            return None
        command: click.Command = importlib.import_module(f"embpress.cli.{cmd_name}").command
        flags = [flag for parameter in command.params for flag in parameter.opts]
        for flag in flags:
            if flags.count(flag) > 1:
                raise Mistake(
                    f"embpress {cmd_name} has two options {flag}: a data format or a click model that lies in "
                    "its folder must call its own otherwise"
                )
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Names the nearest command for one that is not there."""
        if args and not args[0].startswith("-") and args[0] not in commands():
            from embpress.compressors.errors import nearest

            raise Mistake(f"no command {args[0]!r}{nearest(args[0], commands())}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One line a command, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(commands().items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; a mistake of the user's becomes one sentence."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, OSError):
            raise
        except KeyboardInterrupt as stop:
            raise Interrupted(str(stop) or "Interrupted.") from None
        except Exception as error:
            from embpress.kernels.errors import EmbpressError

            if ctx.params.get("debug") or not isinstance(error, EmbpressError):
                raise
            raise Mistake(str(error)) from None

    def main(self, *args: Any, **options: Any) -> Any:
        """As click's; a standard output that is full is one sentence, one that nobody reads (`| head`) is none.

        The words of the command are the context's `obj`, to be said again to workers.
        """
        words = args[0] if args else options.get("args")
        options.setdefault("obj", list(sys.argv[1:] if words is None else words))
        try:
            try:
                return super().main(*args, **options)
            finally:
                sys.stdout.flush()
        except OSError as error:
            unread, full = error.errno == errno.EPIPE, error.errno in (errno.ENOSPC, errno.EIO, errno.EDQUOT)
            if error.filename is not None or not (unread or full):
                raise
            if not unread:
                click.echo(f"Error: standard output cannot be written: {error.strerror}; send it elsewhere", err=True)
            # else what is still in its buffer fails again at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0 if unread else 2)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="embpress")
@click.option("--debug", is_flag=True, help="Show the traceback of a mistake.")
def main(debug: bool) -> None:
    """Shrink the embedding tables of recommendation models, and see what it costs.

    \b
    Start with
      embpress compare                                  methods and baselines on synthetic click data
      embpress compare clicks.csv --label click --ratio 16
      embpress compare --help                           examples for your own files
    """
    if not debug:  # the log of torch's C++, such as its profiler's remarks, would stand among the lines of progress
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


if __name__ == "__main__":
    main()
