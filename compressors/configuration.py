"""What a state dict says of the table it was taken from, so that no other table takes it for its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from embpress.compressors.errors import InputError
from embpress.compressors.integers import Constants

_BLOCK = 512  # bytes are filled up to whole blocks: a checkpoint that is read in place needs equal sizes


def encoded(configuration: Mapping[str, Any]) -> Tensor:
    """JSON as uint8, one element a bit, 0 or 255.

    So written it passes through whatever is done to the tensors of a state dict: an average of equal values, with all
    its rounding, and a cast to half precision leave every bit on its side of 127.
    """
    text = json.dumps(configuration, sort_keys=True).encode()
    data = torch.frombuffer(bytearray(text.ljust(-(-len(text) // _BLOCK) * _BLOCK)), dtype=torch.uint8)
    return (data.unsqueeze(1) >> torch.arange(8, dtype=torch.uint8, device="cpu") & 1).flatten() * 255


def decoded(state: Tensor) -> dict[str, Any]:
    """What `encoded` wrote.

    Raises:
        InputError: it is something else.
    """
    try:
        bits = (state.detach().cpu().float() > 127).view(-1, 8).to(torch.int64)
        data = bytes((bits << torch.arange(8, device="cpu")).sum(1).tolist())
        configuration: dict[str, Any] = json.loads(data)
    except (AttributeError, RuntimeError, ValueError, TypeError) as error:
        raise InputError("the state dict says what no table says of itself") from error
    return configuration


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What two configurations disagree on, such as `z=16 instead of z=32`."""
    wanted = json.loads(json.dumps(wanted))
    return [
        f"{name}={found.get(name)} instead of {name}={wanted.get(name)}"
        for name in {**wanted, **found}
        if found.get(name) != wanted.get(name)
    ]


class Configured(nn.Module):
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

    def get_extra_state(self) -> Tensor:
        """The configuration, in a form that averages and casts of a state dict leave alone."""
        return encoded(self.configuration())

    def set_extra_state(self, state: Tensor) -> None:
        """Takes over the constants of the table that was saved.

        Raises:
            InputError: it was of another method, shape or knobs; the message names them.
        """
        constants = self.checked_constants(state)
        for name in self.constants:
            self.constants[name].copy_(torch.tensor(constants[name], dtype=torch.int64, device="cpu"))

    def checked_constants(self, state: Tensor) -> dict[str, Any]:
        """The constants of the table that was saved.

        Raises:
            InputError: it was of another method, shape or knobs; the message names them.
        """
        found = decoded(state)
        constants: dict[str, Any] = found.pop("constants", {})
        differing = differences(found, {k: v for k, v in self.configuration().items() if k != "constants"})
        if differing:
            raise InputError(f"the state dict is of another table: {', '.join(differing)}")
        return constants

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
