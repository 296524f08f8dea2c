"""Checkpoints: a run's trained weights at the epoch that counts, with all that rebuilds the model, in one file."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import torch
from torch import Generator, Tensor, nn

from embpress.compressors import InputError, Plan, TableCollection
from embpress.dlrm.data import ClickData, Part
from embpress.dlrm.data.base import Bags
from embpress.dlrm.models.base import ClickModel, model_class
from embpress.dlrm.runs.record import Run, plain
from embpress.dlrm.runs.store import write_atomic
from embpress.dlrm.runs.upgrade import upgraded
from embpress.dlrm.training.settings import Settings

SCHEMA = "embpress-checkpoint/1"
SAMPLE_ROWS = 256


@dataclass(frozen=True)
class ModelRecord:
    """What builds the click model around its tables.

    Attributes:
        name: a file of `dlrm/models`.
        num_dense: dense features.
        amp: its layers compute in bfloat16.
        configuration: further keywords of its constructor.
    """

    name: str
    num_dense: int
    amp: bool
    configuration: dict[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """A trained click model.

    Attributes:
        run: the run that trained it.
        plan: what each table is.
        model: what the rest is.
        weights: its state dict, on the CPU.
        sample: the first rows of the test part; their labels are not kept, and zero here.
        predictions: click probabilities `(rows of sample,)` float32, as the run saved them.
    """

    run: Run
    plan: Plan
    model: ModelRecord
    weights: dict[str, Tensor]
    sample: Part
    predictions: Tensor

    def build(self) -> ClickModel:
        """The trained model in eval mode, on the CPU.

        Raises:
            InputError: the weights are not those of this version's model.
        """
        update = {"optimizer": self.run.training.get("optimizer"), "learning_rate": self.run.learning_rate}
        configs = [table.config for table in self.plan.tables]
        tables = TableCollection.build(configs, self.plan, update=update, generator=Generator().manual_seed(0))
        cls: Any = model_class(self.model.name)
        rest = {"generator": Generator().manual_seed(0), "amp": self.model.amp, **self.model.configuration}
        model: ClickModel = cls(self.model.num_dense, tables, **rest)
        try:
            model.load_state_dict(self.weights)
        except RuntimeError as error:
            first = [line.strip() for line in str(error).splitlines()][1:2] or [str(error)]
            version = self.run.environment.get("embpress", "unknown")
            raise InputError(
                f"the weights of {self.run.id}, saved by embpress {version}, do not fit the model of this version "
                f"({first[0].rstrip('.')}): export them with that one, or train them again"
            ) from None
        return model.eval()


class Keeper:
    """Takes a copy of a model's weights, on the CPU, in place of the one before."""

    def __init__(self) -> None:
        self.weights: dict[str, Tensor] = {}

    def take(self, model: nn.Module) -> None:
        """Copies the state dict as it is now."""
        self.weights = {name: value.detach().to("cpu", copy=True) for name, value in model.state_dict().items()}


def checkpoint_path(folder: Path, run: Run) -> Path:
    """Where a run folder keeps the weights of a run."""
    return folder / "weights" / f"{run.id}.pt"


def checkpoint_of(
    run: Run, plan: Plan, settings: Settings, data: ClickData, weights: dict[str, Tensor], predictions: np.ndarray
) -> Checkpoint:
    """The checkpoint of a run that has ended; `predictions` are its probabilities of the test part."""
    sample = data.test.slice(0, SAMPLE_ROWS)
    model = ModelRecord(
        name=settings.model,
        num_dense=data.train.dense.shape[1],
        amp=settings.amp,
        configuration=dict(settings.options),
    )
    return Checkpoint(run, plan, model, weights, sample, torch.from_numpy(predictions[: len(sample)].copy()))


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint, whole or not at all.

    Raises:
        InputError: the folder cannot be written, or the disk is full.
    """
    sample = checkpoint.sample
    value = {
        "schema": SCHEMA,
        # as text: a record may hold what is no plain value, which the loader would not take
        "run": json.dumps(checkpoint.run.to_json()),
        "plan": checkpoint.plan.to_json(),
        "model": json.dumps(plain(asdict(checkpoint.model))),
        "weights": checkpoint.weights,
        "sample": {
            # copies: a view would take the whole part with it
            "dense": sample.dense.clone(),
            "ids": sample.ids.clone(),
            "bags": {f: (bags.values.clone(), bags.offsets.clone()) for f, bags in sample.bags.items()},
            "predictions": checkpoint.predictions,
        },
    }
    write_atomic(path, lambda file: written(torch.save, value, file))


class _Remembering(io.RawIOBase):
    """A file that takes what comes after an error without a word, and knows the error."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self.file, self.error = file, cast("OSError | None", None)

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return 0  # asked for when all is written

    def write(self, data: Any) -> int:
        if self.error is None:
            try:
                self.file.write(data)
            except OSError as error:
                self.error = error
        return len(data)


def written(save: Callable[[Any, IO[bytes]], None], value: Any, file: IO[bytes]) -> None:
    """Saves by a function of torch's: a write that fails, as on a full disk, ends the process where torch meets it.

    Raises:
        OSError: a write has failed.
    """
    remembering = _Remembering(file)
    save(value, cast("IO[bytes]", remembering))
    if remembering.error is not None:
        raise remembering.error


def read(path: Path) -> Checkpoint:
    """A checkpoint from its file; nothing in it is executed.

    Raises:
        InputError: the file cannot be read, is no checkpoint or a damaged one, or is of another version.
    """
    try:
        value = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except Exception:  # whatever torch makes of the bytes
        raise InputError(f"{path} is no checkpoint of embpress, or a damaged one") from None
    schema = value.get("schema") if isinstance(value, Mapping) else None
    if schema != SCHEMA:
        raise InputError(f"{path} is not a checkpoint of this version (schema {schema!r}, want {SCHEMA!r})")
    try:
        sample = value["sample"]
        bags = {f: Bags(values, offsets) for f, (values, offsets) in sample["bags"].items()}
        return Checkpoint(
            run=Run.from_json(upgraded(json.loads(value["run"]))),
            plan=Plan.of_text(value["plan"], str(path)),
            model=ModelRecord(**json.loads(value["model"])),
            weights=value["weights"],
            sample=Part(torch.zeros(len(sample["ids"])), sample["dense"], sample["ids"], bags),
            predictions=sample["predictions"],
        )
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is a damaged checkpoint: {error}") from None
