"""`embpress list`."""

from __future__ import annotations

import inspect

import click


@click.command(name="list")
def command() -> None:
    """Show the methods and modifiers, their knobs with defaults, where each comes from, and the sets of methods.

    \b
    A method with knobs and modifiers is written name:knob=value+modifier:knob=value,
    for instance robe:z=32:ratio=1000 or tt:rank=16+bf16; ratio and budget count all of it.
    from_dense says what can start from a trained table, a modifier around any method that can.
    plan:FILE gives each table a method of its own (embpress plan). A set stands for its
    methods in --methods of embpress compare.
    """
    from rich.markup import escape

    from embpress.cli.show import console, table
    from embpress.compressors import Modifier, broken
    from embpress.compressors.registry import METHODS, MODIFIERS
    from embpress.dlrm.sets import sets, specs_of

    rows = []
    known = [(name, METHODS.get(name)) for name in METHODS.names()]
    for name, cls in [*known, *((f"+{name}", MODIFIERS.get(name)) for name in MODIFIERS.names())]:
        source = (inspect.getmodule(cls).__doc__ or cls.__doc__ or "").strip().splitlines()[0]
        source = source.removeprefix(f"`{name}`: ")
        knobs = {knob: parameter.default for knob, parameter in cls.knob_names().items() if knob not in cls.wiring}
        shown = " ".join(f"{knob}={'auto' if default is None else default}" for knob, default in knobs.items())
        starts = "yes" if issubclass(cls, Modifier) or cls.tags.from_dense else "–"
        rows.append([name, shown or "–", starts, source])
    out = console()
    out.print(table(["method", "knobs", "from_dense", "what"], rows, left=(0, 1, 2, 3)))
    held = [[name, escape(", ".join(specs_of(name))), about] for name, about in sets().items()]
    out.print()
    out.print(table(["set", "methods", "what"], held, left=(0, 1, 2)))
    for name, reason in broken().items():
        out.print(f"{name}: broken plug-in, {reason}", markup=False, style="red")
