"""What a state dict says of the table it was taken from, so that no other table takes it for its own."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from embpress.compressors.errors import InputError
from embpress.compressors.integers import Constants
from embpress.compressors.resumable import Resumable

_BLOCK = 512  # bytes are filled up to whole blocks: a checkpoint that is read in place needs equal sizes
_STEP = 17  # four bits of an element: 0, 17, …, 255


def encoded(configuration: Mapping[str, Any], data: Tensor | None = None) -> Tensor:
    """JSON as uint8, one element a bit, 0 or 255.

    So written it passes through whatever is done to the tensors of a state dict: an average of equal values, with all
    its rounding, and a cast to half precision leave every bit on its side of 127.

    Args:
        configuration: of a table.
        data: int64 on the CPU that stand behind it, two elements a byte, each a multiple of 17.
    """
    text = json.dumps(configuration, sort_keys=True).encode()
    block = torch.frombuffer(bytearray(text.ljust(-(-len(text) // _BLOCK) * _BLOCK)), dtype=torch.uint8)
    bits = (block.unsqueeze(1) >> torch.arange(8, dtype=torch.uint8, device="cpu") & 1).flatten() * 255
    if data is None:
        return bits
    whole = data.contiguous().view(torch.uint8)
    return torch.cat([bits, torch.stack([whole & 15, whole >> 4], dim=1).flatten() * _STEP])


def decoded(state: Tensor) -> tuple[dict[str, Any], Tensor]:
    """What `encoded` wrote: the configuration, and the data, int64 `(·,)`.

    Raises:
        InputError: it is something else.
    """
    try:
        values, text = state.detach().cpu(), ""
        for block in values.split(8 * _BLOCK):
            bits = (block.float() > 127).view(-1, 8).to(torch.int64)
            text += bytes((bits << torch.arange(8, device="cpu")).sum(1).tolist()).decode("ascii")
            with contextlib.suppress(json.JSONDecodeError):  # there is more of it
                configuration: dict[str, Any] = json.loads(text)
                break
        else:
            raise ValueError("no text")
        steps = (values[8 * len(text) :].float() / _STEP).round().to(torch.uint8).view(-1, 2)
        return configuration, (steps[:, 0] | steps[:, 1] << 4).view(torch.int64)
    except (AttributeError, RuntimeError, ValueError, TypeError) as error:
        raise InputError("the state dict says what no table says of itself") from error


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What two configurations disagree on, such as `z=16 instead of z=32`."""
    wanted = json.loads(json.dumps(wanted))
    return [
        f"{name}={found.get(name)} instead of {name}={wanted.get(name)}"
        for name in {**wanted, **found}
        if found.get(name) != wanted.get(name)
    ]


class Configured(Resumable):
    """A module whose state dict says what it is: one that differs in more than values refuses it by name.

    Class attributes:
        training_knobs: keywords that make no difference to what a trained table looks up.
    """

    training_knobs: ClassVar[tuple[str, ...]] = ()
    spec_name: ClassVar[str]
    num_embeddings: int
    embedding_dim: int
    constants: Constants

    def knobs(self) -> dict[str, Any]:
        """The module's own keywords as resolved."""
        return {}

    def configuration(self) -> dict[str, Any]:
        """What tells this table from others: method, shape, knobs and constants, as JSON takes them."""
        knobs = {name: value for name, value in self.knobs().items() if name not in self.training_knobs}
        constants = {name: self.constants[name].tolist() for name in self.constants}
        shape = {"num_embeddings": self.num_embeddings, "embedding_dim": self.embedding_dim}
        return {"method": self.spec_name, **shape, **knobs, "constants": constants}

    def data(self) -> Tensor | None:
        """int64 `(·,)` on the CPU, as long as the configuration says, that is neither learned nor fixed by it."""
        return None

    def take_data(self, data: Tensor) -> None:
        """Takes over what `data` of a table of the same configuration gave."""

    def get_extra_state(self) -> Tensor:
        """The configuration and the data, in a form that averages and casts of a state dict leave alone."""
        return encoded(self.configuration(), self.data())

    def set_extra_state(self, state: Tensor) -> None:
        """Takes over the constants of the table that was saved.

        Raises:
            InputError: it was of another method, shape or knobs; the message names them.
        """
        found, data = decoded(state)
        constants = found.pop("constants", {})
        differing = differences(found, {k: v for k, v in self.configuration().items() if k != "constants"})
        own = self.data()
        size = 0 if own is None else len(own)
        if len(data) != size:
            differing.append(f"data of size {len(data)} instead of {size}")
        if differing:
            raise InputError(f"the state dict is of another table: {', '.join(differing)}")
        for name, value in constants.items():
            self.constants[name].copy_(torch.tensor(value, dtype=torch.int64, device="cpu"))
        if size:
            self.take_data(data)

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: Any,
        strict: Any,
        missing_keys: Any,
        unexpected_keys: Any,
        error_msgs: list[str],
    ) -> None:
        try:
            super()._load_from_state_dict(
                state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
            )
        except InputError as error:  # beside what else does not fit
            error_msgs.append(f"{prefix.removesuffix('.') or type(self).__name__}: {error}")
