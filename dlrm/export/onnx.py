"""The program as an ONNX file, where ONNX has all its ops."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.utils._pytree import tree_leaves

from embpress.compressors.errors import installed
from embpress.dlrm.export.program import dynamic_shapes
from embpress.dlrm.export.served import Inputs

PACKAGES = ("onnx", "onnxscript", "onnxruntime")


class NoOnnx(Exception):
    """Why there is no ONNX file, in one sentence."""


def input_names(inputs: Inputs) -> list[str]:
    """What the file calls its inputs: dense, ids, and the bags' in order."""
    bags = inputs[2] if len(inputs) == 3 else []
    return ["dense", "ids", *(f"{what}_{i}" for i in range(len(bags)) for what in ("values", "offsets"))]


def write_onnx(program: ExportedProgram, inputs: Inputs, path: Path) -> None:
    """Converts a program; large weights go into a file beside `path`.

    Raises:
        NoOnnx: the packages are not installed, or ONNX lacks an op. OSError: the file cannot be written.
    """
    missing = [name for name in PACKAGES if not installed(name)]
    if missing:
        raise NoOnnx(f"it needs {', '.join(missing)}: pip install 'embpress[onnx]'")
    with _quiet():
        try:
            made = torch.onnx.export(
                program,
                inputs,
                dynamo=True,
                input_names=input_names(inputs),
                output_names=["probability"],
                dynamic_shapes=dynamic_shapes(inputs),
                verbose=False,
            )
        except Exception as error:
            lacks = re.search(r"No ONNX function found for <OpOverload\(op='([\w.]+)'", str(error))
            why = f"ONNX has no {lacks[1]}" if lacks else f"{type(error).__name__} in the conversion"
            raise NoOnnx(why) from error
        assert made is not None  # without a path the program is returned
        made.save(path)


def answers(path: Path, inputs: Inputs) -> Tensor:
    """What onnxruntime makes of the inputs on the CPU.

    Raises:
        NoOnnx: it cannot run the file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        feed = {name: tensor.numpy() for name, tensor in zip(input_names(inputs), tree_leaves(inputs))}
        known = {value.name for value in session.get_inputs()}
        (found,) = session.run(None, {name: value for name, value in feed.items() if name in known})
    except Exception as error:
        raise NoOnnx(f"onnxruntime cannot run it ({type(error).__name__})") from error
    return torch.from_numpy(found)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the converter's remarks on what it does and which packages it could use."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnx_ir", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
