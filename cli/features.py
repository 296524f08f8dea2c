"""`embpress features`."""

from __future__ import annotations

import click


@click.command(name="features")
@click.option("--methods", help="Methods with knobs and modifiers, separated by commas. [default: all registered]")
@click.option(
    "--write", type=click.Path(exists=True, dir_okay=False), help="A markdown file with the table's marks in it."
)
def command(methods: str | None, write: str | None) -> None:
    """Try what models do with tables, method by method: yes, or the sentence one gets.

    Every feature is a check of the conformance suite, tried on one table and on three in a collection.

    \b
    Examples:
      embpress features
      embpress features --methods tt:rank=4,my-method
      embpress features --write compressors/README.md      the same methods as there
    """
    from pathlib import Path

    from embpress.cli.show import console
    from embpress.compressors import available
    from embpress.compressors.registry import method
    from embpress.compressors.spec import parse_all
    from embpress.compressors.testing.features import columns, markdown, replaced
    from embpress.dlrm.runs.store import write_text

    path = Path(write) if write else None
    text = path.read_text(encoding="utf-8") if path else ""
    if methods:
        chosen = [str(spec) for spec in parse_all(methods)]
    else:
        chosen = columns(text) or [name for name in available() if method(name).unavailable() is None]
    with console(stderr=True).status("starting") as status:
        table = markdown(chosen, lambda title: status.update(title))
    if path is None:
        click.echo(table, nl=False)
    else:
        write_text(path, replaced(text, table))
        click.echo(f"table: {path}")
