"""`embpress export`."""

from __future__ import annotations

import click

from embpress.cli.numbers import Whole


@click.command(name="export")
@click.argument("source", type=click.Path(), metavar="RUN_OR_CHECKPOINT")
@click.option("--to", "to", type=click.Path(), required=True, metavar="DIR", help="New folder for the files.")
@click.option("--method", help="Which run of a run folder, as the records name its method.")
@click.option("--seed", type=Whole(), help="Which run of a run folder.")
@click.option("--ratio", help="The ratio that the run was asked for, where a folder has several sizes.")
@click.option("--budget", help="The same, of serving bytes.")
@click.option("--onnx/--no-onnx", default=True, help="Write an ONNX file, where ONNX has the ops. [default: onnx]")
def command(
    source: str,
    to: str,
    method: str | None,
    seed: int | None,
    ratio: str | None,
    budget: str | None,
    onnx: bool,
) -> None:
    """Write a trained model as files that run without embpress.

    RUN_OR_CHECKPOINT is a run folder of compare or train with --keep-weights, a record in it, or a file in its folder
    weights. DIR then holds weights.safetensors, model.pt2 (a torch.export program), model.onnx, manifest.json and
    load.py, which needs torch alone. The files are checked to predict what the trained model does.

    \b
    Examples:
      embpress train clicks.csv --label click --method tt --ratio 16 --out runs/tt --keep-weights
      embpress export runs/tt --to served
      embpress export runs/mine --method robe:z=16 --seed 0 --to served
    """
    from embpress.cli.show import console, table
    from embpress.compressors.guard import path
    from embpress.compressors.spec import as_bytes, as_ratio
    from embpress.dlrm.export.export import export
    from embpress.dlrm.export.source import find
    from embpress.dlrm.runs.record import Asked
    from embpress.reports import numerals

    asked = None
    if ratio is not None or budget is not None:
        asked = Asked(None if ratio is None else as_ratio(ratio), None if budget is None else as_bytes(budget))
    found, folder = find(path(source, "RUN_OR_CHECKPOINT"), method, seed, asked), path(to, "--to")
    with console(stderr=True).status("starting") as status:
        made = export(found, folder, onnx=onnx, progress=status.update)
    about = made.manifest
    notes = {}
    for entry in about["files"].values():
        if "largest_difference" in entry:
            notes[entry["file"]] = f"largest difference from trained predictions {entry['largest_difference']:.2g}"
    out = console()
    out.print(
        f"{about['source']['method']} · seed {about['source']['seed']}: tables of "
        f"{numerals.size(about['bytes']['tables'])}, {numerals.ratio(about['bytes']['ratio'])}",
        markup=False,
    )
    out.print(
        table(
            ["file", "size", ""],
            [[name, numerals.size(size), notes.get(name, "")] for name, size in made.files.items()],
            left=(0, 2),
        )
    )
    left_out = about["files"]["onnx"].get("left_out")
    if left_out and onnx:
        out.print(f"no ONNX file: {left_out}", markup=False, soft_wrap=True)
    out.print(f"exported: {folder}", markup=False, soft_wrap=True)
