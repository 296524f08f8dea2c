"""From a checkpoint to a folder: weights, a manifest, programs, and a loader."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from embpress.compressors import Compressor
from embpress.dlrm.export import loader, safetensors
from embpress.dlrm.export.agreement import (
    DRAWN,
    FOLDED,
    TRAINED,
    Case,
    ExportRefused,
    answered,
    checked,
    limit_of,
    rounding,
)
from embpress.dlrm.export.folder import check_new, write_folder
from embpress.dlrm.export.manifest import manifest
from embpress.dlrm.export.onnx import NoOnnx, answers, write_onnx
from embpress.dlrm.export.program import program_of
from embpress.dlrm.export.served import Served, drawn_inputs, inputs_of
from embpress.dlrm.models.base import ClickModel
from embpress.dlrm.runs.checkpoint import Checkpoint, read, written
from embpress.dlrm.runs.store import write_json, write_text

WEIGHTS, PROGRAM, ONNX, LOADER, MANIFEST = (
    "weights.safetensors",
    "model.pt2",
    "model.onnx",
    "load.py",
    "manifest.json",
)


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        manifest: as the file says it.
        files: bytes of each file by name.
    """

    manifest: dict[str, Any]
    files: dict[str, int]


def export(
    checkpoint: Path, folder: Path, *, onnx: bool = True, progress: Callable[[str], None] = lambda what: None
) -> Exported:
    """Writes a trained model as files that need torch alone.

    The program, as it loads from its file, must predict what the trained model does: what the run predicted for the
    first rows of its test part, and what the rebuilt model answers for ids drawn from all rows.

    Args:
        checkpoint: of a run that kept its weights.
        folder: new or empty; written whole or not at all.
        onnx: write an ONNX file too, where ONNX has the ops and its packages are installed.
        progress: told what is going on.

    Raises:
        ExportRefused: the predictions differ. InputError: no checkpoint, or the folder cannot be written.
    """
    check_new(folder)  # before anything takes its time
    progress("reading the checkpoint")
    kept = read(checkpoint)
    return write_folder(folder, partial(_write, kept, onnx, progress))


def weights_of(model: ClickModel) -> dict[str, Tensor]:
    """Parameters and buffers by name, and what tables compute with and nobody learns, such as a hash's coefficients."""
    state = {name: value for name, value in model.state_dict().items() if not name.endswith("_extra_state")}
    for prefix, module in model.named_modules():
        if isinstance(module, Compressor):
            state |= {f"{prefix}.{name}": module.constants[name] for name in module.constants}
    return {name: tensor.contiguous() for name, tensor in state.items()}


def _write(kept: Checkpoint, onnx: bool, progress: Callable[[str], None], folder: Path) -> Exported:
    progress("building the model")
    model = kept.build().requires_grad_(False)
    multi_hot = sorted(kept.sample.bags)
    limit, drawn = limit_of(kept), drawn_inputs(model, multi_hot, DRAWN)
    cases = [
        # a run keeps what the served model predicts
        Case(FOLDED if kept.run.served else TRAINED, inputs_of(kept.sample), kept.predictions, limit),
        Case(TRAINED, drawn, answered(Served(model, multi_hot), drawn), limit),
    ]
    model.tables = model.tables.fold()
    cases.append(Case(FOLDED, drawn, answered(Served(model, multi_hot), drawn), rounding(kept)))
    weights = weights_of(model)
    about = manifest(kept, model.tables, weights, multi_hot)
    with open(folder / WEIGHTS, "wb") as file:
        safetensors.write(weights, file)
    write_text(folder / LOADER, Path(loader.__file__).read_text(encoding="utf-8"))

    progress("making the program")
    example = drawn_inputs(model, multi_hot, 8)
    program = program_of(Served(model, multi_hot).eval(), example)
    with open(folder / PROGRAM, "wb") as file:
        written(torch.export.save, program, file)
    progress("checking the program")
    answer = loader.model(folder)
    largest = checked("the program", lambda inputs: answer(*inputs), cases)
    files: dict[str, Any] = {
        "weights": {"file": WEIGHTS, "format": "safetensors"},
        "program": {"file": PROGRAM, "largest_difference": largest},
        "onnx": {"file": None, "left_out": "not asked for"},
        "loader": {"file": LOADER},
    }
    if onnx:
        progress("making the ONNX file")
        try:
            write_onnx(program, example, folder / ONNX)
            largest = checked("the ONNX file", partial(answers, folder / ONNX), cases)
            files["onnx"] = {"file": ONNX, "largest_difference": largest}
        except (NoOnnx, ExportRefused) as error:  # the rest stands without it
            for path in folder.glob(f"{ONNX}*"):
                path.unlink()
            files["onnx"] = {"file": None, "left_out": str(error).removesuffix(": nothing is exported")}
    about["check"] = {
        "limit": limit,
        "what": "largest difference of a click probability from the trained model's",
        "test_rows": len(kept.sample),
        "drawn_rows": DRAWN,
    }
    about["files"] = files
    write_json(folder / MANIFEST, about)
    return Exported(about, {path.name: path.stat().st_size for path in sorted(folder.iterdir())})
