"""`embpress list`."""

from __future__ import annotations

import inspect

import click


@click.command(name="list")
def command() -> None:
    """Show the methods, their knobs with defaults, and where each comes from.

    \b
    A method with knobs is written name:knob=value:knob=value, for instance robe:z=32:ratio=1000.
    ratio and budget work with every method.
    """
    from embpress.cli.show import console, table
    from embpress.compressors import available, broken, method

    rows = []
    for name in available():
        cls = method(name)
        source = (inspect.getmodule(cls).__doc__ or cls.__doc__ or "").strip().splitlines()[0]
        knobs = {knob: parameter.default for knob, parameter in cls.knob_names().items() if knob not in cls.wiring}
        shown = " ".join(f"{knob}={'auto' if default is None else default}" for knob, default in knobs.items())
        rows.append([name, shown or "–", source])
    out = console()
    out.print(table(["method", "knobs", "what"], rows, left=(0, 1, 2)))
    for name, reason in broken().items():
        out.print(f"{name}: broken plug-in, {reason}", markup=False, style="red")
