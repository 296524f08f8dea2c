"""Checks of state dicts and files: what is loaded is what was saved, or it is refused."""

from __future__ import annotations

import copy
import io
import pickle
import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from embpress.compressors.errors import installed
from embpress.compressors.testing.feature import NotApplicable, Use, feature, must_refuse
from embpress.compressors.testing.subject import D, N, Subject


@feature("a state dict loads into a differently seeded module")
def check_load_other_seed(use: Use) -> None:
    """A state dict, through a file, gives bit-equal lookups in a module of another seed."""
    source, target = use.make(seed=1), use.make(seed=2)
    use.step(source)
    assert not torch.equal(use.answers(source), use.answers(target)), "two seeds gave one module"
    file = io.BytesIO()
    torch.save(source.state_dict(), file)
    file.seek(0)
    target.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(use.answers(source), use.answers(target)), "the loaded module looks up other rows"


@feature("`load_state_dict(assign=True)`")
def check_load_assign(use: Use) -> None:
    """The loaded tensors take the place of the parameters, which then train."""
    source, target = use.make(seed=1), use.make(seed=2)
    state = {name: value.clone() for name, value in source.state_dict().items()}
    target.load_state_dict(state, assign=True)
    assert torch.equal(use.answers(source), use.answers(target)), "the assigned tensors are not looked up"
    before = use.answers(target)
    use.step(target)
    assert not torch.equal(use.answers(target), before), "the assigned tensors do not train"


@feature("a state dict of another shape is refused")
def check_load_other_shape(use: Use) -> None:
    """A checkpoint of a table of another size is no checkpoint of this one."""
    source, target = use.make(rows=4 * N), use.make()
    state = source.state_dict()
    if {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in target.state_dict().items()}:
        raise NotApplicable("its parameters do not grow with the rows")
    # tables of other shapes may not be answered together, and so have other names in a collection
    word = "size" if state.keys() == target.state_dict().keys() else "key"
    must_refuse(lambda: target.load_state_dict(state), (RuntimeError, ValueError), word)


@feature("a state dict of other knobs is refused, where they mean other rows")
def check_load_other_knobs(use: Use) -> None:
    """Knobs that do not show in shapes must be told from the state dict: each is changed by itself."""
    source, want = use.make(), None
    for name, value in _other_knobs(use.subject):
        try:
            target = replace(use, subject=replace(use.subject, knobs={**use.subject.knobs, name: value})).make(seed=2)
        except (ValueError, TypeError):
            continue  # a value that does not go with the others
        try:
            target.load_state_dict(source.state_dict())
        except (RuntimeError, ValueError):
            continue
        want = use.answers(source) if want is None else want
        assert torch.equal(use.answers(target), want), f"with {name}={value} it loads, and looks up other rows"


def _other_knobs(subject: Subject) -> Iterator[tuple[str, Any]]:
    """Knobs with values other than the subject's: numbers one larger, and the words that a refusal names."""
    for name, value in subject.cls(N, D, device="meta", **subject.knobs).knobs().items():
        if isinstance(value, bool):
            yield name, not value
        elif isinstance(value, int):
            yield name, value + 1
        elif isinstance(value, str):
            try:
                subject.cls(N, D, **{**subject.knobs, name: "?"})
            except ValueError as error:
                yield from ((name, word) for word in re.findall(r"[a-z]+(?:-[a-z]+)*", str(error)) if word != value)


@feature("`copy.deepcopy` and `pickle`, in the middle of training")
def check_copies_trained(use: Use) -> None:
    """Copies look up the same rows and train by themselves."""
    source = use.make()
    use.step(source)
    before = use.answers(source)
    for twin in (copy.deepcopy(source), pickle.loads(pickle.dumps(source))):
        assert torch.equal(use.answers(twin), before), "the copy looks up other rows"
        use.step(twin)
        assert not torch.equal(use.answers(twin), before), "the copy does not train"
        assert torch.equal(use.answers(source), before), "training the copy trains its source"


@feature("`safetensors` saves and loads the module")
def check_safetensors(use: Use) -> None:
    """`save_model` and `save_file` take the module: no memory is registered under two names."""
    if not installed("safetensors"):
        raise NotApplicable("safetensors is not installed")
    from safetensors.torch import load_model, save_file, save_model

    source, target = use.make(seed=1), use.make(seed=2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.safetensors"
        state = {name: value.contiguous() for name, value in source.state_dict().items()}
        save_file(state, path)
        save_model(source, str(path))
        load_model(target, str(path))
    assert torch.equal(use.answers(source), use.answers(target)), "the loaded module looks up other rows"
