"""Features: for every one a compressor broken in that way, which its check must reject; and the table made of them."""

import copy
import re

import numpy as np
import pytest
import torch
from paths import ROOT
from torch import nn
from torch.nn import functional as F

from embpress.compressors import Compressor, InputError, Tags, available, parse
from embpress.compressors.group import TableGroup
from embpress.compressors.methods.full import Full
from embpress.compressors.registry import method
from embpress.compressors.testing import FEATURES, Subject, suite
from embpress.compressors.testing import features as table
from embpress.compressors.testing.feature import NotApplicable, Refused, Use, feature

README = ROOT / "compressors" / "README.md"
BROKEN: dict[str, type[Compressor]] = {}


def breaks(*checks):
    def decorate(cls):
        BROKEN.update(dict.fromkeys(checks, cls))
        return cls

    return decorate


class Plain(Full):
    """A full table without its special routes, so that a fault shows in all calls alike."""

    stacked = ()
    group = TableGroup

    def _lookup(self, ids):
        return F.embedding(ids, self.weight, sparse=self.sparse)


@breaks("check_average", "check_average_state", "check_cast")
class AveragedHash(Plain):
    """A coefficient that averages and casts turn into another one."""

    group = TableGroup

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.register_buffer("coefficient", torch.tensor(123_456_791, device=options.get("device")))

    def _lookup(self, ids):
        return super()._lookup(ids * self.coefficient % self.num_embeddings)

    def half(self):
        self.coefficient = self.coefficient.float()
        return super().half()


@breaks("check_bfloat16", "check_float16")
class AnswersWide(Plain):
    group = TableGroup

    def _lookup(self, ids):
        return super()._lookup(ids).float()


@breaks("check_sizes")
class KeepsNumPy(Plain):
    def __init__(self, n, dim, **options):
        super().__init__(int(n), int(dim), **options)
        self.num_embeddings = np.int64(n)


@breaks("check_wrong_ids")
class CastsIds(Plain):
    def forward(self, input, offsets=None, per_sample_weights=None):
        return super().forward(torch.as_tensor(input).long(), offsets, per_sample_weights)


@breaks("check_weights_dtype")
class CastsWeights(Plain):
    def forward(self, input, offsets=None, per_sample_weights=None):
        return super().forward(input, offsets, per_sample_weights.to(self.weight.dtype))


@breaks(
    *("check_functional_call", "check_func_grad", "check_load_assign"),
    *("check_fsdp", "check_parametrized", "check_pruned"),
)
class HoldsItsParameter(Plain):
    group = TableGroup

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.held = [self.weight]

    def _lookup(self, ids):
        return F.embedding(ids, self.held[0])


@breaks("check_vmap")
class CountsTheBatch(Plain):
    def forward(self, input, offsets=None, per_sample_weights=None):
        return self.weight[input.reshape(-1)] + input.numel()


class _Cut(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, grad):
        return grad * 2 * ctx.saved_tensors[0].detach()


@breaks("check_double_backward")
class OnceOnly(Plain):
    group = TableGroup

    def _lookup(self, ids):
        return _Cut.apply(super()._lookup(ids))


@breaks("check_resumed")
class CountsItsSteps(Plain):
    """What it does at its 40th step depends on a count that nobody saves."""

    tags = Tags(maintain=True, uncompressed=True)
    group = TableGroup
    count = 0

    def maintain(self, step=None):
        self.count += 1
        if self.count == 40:
            self.weight.data.zero_()
        return {}


@breaks("check_load_other_seed", "check_ranks")
class HiddenSeed(Plain):
    group = TableGroup

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.shift = float(self.weight.detach()[0, 0])

    def _lookup(self, ids):
        return super()._lookup(ids) + self.shift


@breaks("check_load_other_shape")
class LoadsAnything(Plain):
    def load_state_dict(self, state_dict, strict=True, assign=False):
        return None


@breaks("check_copies_trained")
class ShallowCopy(Plain):
    def __deepcopy__(self, memo):
        return copy.copy(self)


@breaks("check_safetensors")
class TwoNames(Plain):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.alias = self.weight


@breaks("check_meta", "check_fake", "check_export", "check_compile")
class LooksAtValues(Plain):
    group = TableGroup

    def _lookup(self, ids):
        return super()._lookup(ids) if int(ids.sum()) >= 0 else super()._lookup(-ids)


@breaks("check_to_empty_load", "check_to_empty_reset")
class ConstantAtBirth(Plain):
    group = TableGroup

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.register_buffer("scale", torch.ones(1, device=options.get("device")), persistent=False)

    def to_empty(self, *, device, recurse=True):
        super().to_empty(device=device, recurse=recurse)
        self.scale.fill_(float("nan"))
        return self

    def _lookup(self, ids):
        return super()._lookup(ids) * self.scale


@breaks("check_in_place")
class KeepsItsOutput(Plain):
    def forward(self, input, offsets=None, per_sample_weights=None):
        return super().forward(input, offsets, per_sample_weights).exp()


@breaks("check_weights_of_nothing")
class ForgetsWeights(Plain):
    def forward(self, input, offsets=None, per_sample_weights=None):
        if input.numel():
            return super().forward(input, offsets, per_sample_weights)
        return self.weight.new_zeros(len(offsets), self.embedding_dim) + 0 * self.weight.sum()


@breaks("check_short_last_offset")
class TakesAllIds(Plain):
    def forward(self, input, offsets=None, per_sample_weights=None):
        if self.include_last_offset and offsets is not None:
            offsets = torch.cat([offsets[:-1], offsets.new_tensor([len(input)])])
        return super().forward(input, offsets, per_sample_weights)


@breaks("check_attributes")
class SaysItScales(Plain):
    scale_grad_by_freq = True


@breaks("check_weight")
class TwiceTheRows(Plain):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.weight = nn.Parameter(torch.cat([self.weight.detach()] * 2))


@breaks("check_frozen")
class CountsLookups(Plain):
    group = TableGroup

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.register_buffer("count", torch.zeros((), device=options.get("device")))

    def _lookup(self, ids):
        self.count += self.training
        return super()._lookup(ids)


@breaks("check_checkpointing")
class AnotherEachTime(CountsLookups):
    group = TableGroup

    def _lookup(self, ids):
        return super()._lookup(ids) * (1 + self.count)


@breaks("check_ddp")
class NothingToTrain(Plain):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.weight.requires_grad_(False)


@breaks("check_shared")
class SharesNothing(Plain):
    def share_memory(self):
        return self


@breaks("check_load_other_knobs")
class KnobInNoShape(Plain):
    group = TableGroup

    def __init__(self, *args, shift: int = 1, **options):
        super().__init__(*args, **options)
        self.shift = shift

    def _lookup(self, ids):
        return super()._lookup((ids + self.shift) % self.num_embeddings)


@breaks("check_inference_mode")
class RemembersItsRows(Plain):
    group = TableGroup

    def _lookup(self, ids):
        self.__dict__.setdefault("rows", {})
        key = tuple(ids.tolist())
        if key not in self.rows:
            self.rows[key] = super()._lookup(ids)
        return self.rows[key]


@breaks("check_autocast")
class SpillsOver(Plain):
    def forward(self, input, offsets=None, per_sample_weights=None):
        out = super().forward(input, offsets, per_sample_weights)
        return out @ torch.full((16, 16), 1e-3) if torch.is_autocast_enabled("cpu") else out


@breaks("check_adam")
class SparseUnasked(Plain):
    group = TableGroup

    def _lookup(self, ids):
        return F.embedding(ids, self.weight, sparse=True)


@breaks("check_trace")
class ReadsIds(Plain):
    def forward(self, input, offsets=None, per_sample_weights=None):
        return self.weight[input.flatten().tolist()]


@breaks("check_script")
class TakenByScript(Plain):
    pass


def test_every_feature_has_a_broken_compressor_and_a_title():
    assert set(BROKEN) == {check.__name__ for check in FEATURES}
    assert len({check.title for check in FEATURES}) == len(FEATURES)


@pytest.mark.parametrize("check", FEATURES, ids=lambda check: check.__name__)
def test_a_broken_compressor_is_rejected(check, monkeypatch):
    if check.__name__ == "check_script":
        monkeypatch.setattr(torch.jit, "script", lambda module: module)
    found = table.tried(check, Subject(BROKEN[check.__name__]), False)
    assert found.kind == "no", found
    assert not found.text.startswith(("NameError", "AttributeError")), found


# --- the table --------------------------------------------------------------------------------------------------------


@feature("four ways")
def check_four_ways(use):
    name = use.subject.cls.spec_name
    if name == "tt":
        raise Refused("tt: not in this\nhouse")
    if name == "qr":
        raise NotApplicable("of no use")
    assert name != "mlet" or use.collected, "silently wrong in /some/where/file.cpp:7: here"
    if name == "hash":
        raise InputError("hash: refused too")


def test_what_becomes_of_a_feature(monkeypatch):
    monkeypatch.setattr(suite, "FEATURES", (check_four_ways,))
    lines = table.markdown(["full", "tt", "qr", "mlet", "hash"]).splitlines()
    assert lines[0] == "| Feature | `full` | `tt` | `qr` | `mlet` | `hash` |"
    assert lines[2] == "| four ways | yes | refused (1) | – | no (2) / yes | refused (3) |"
    assert lines[4:] == ["1. tt: not in this", "2. silently wrong in here", "3. hash: refused too"]


def test_a_check_made_of_a_feature_fails_where_the_feature_does():
    with pytest.raises(AssertionError, match="silently wrong"):
        check_four_ways(Subject(method("mlet")))
    for name in ("full", "tt", "qr", "hash"):
        check_four_ways(Subject(method(name)))


def test_the_table_is_written_between_its_marks_and_nowhere_else():
    text = f"before\n{table.START}\n| Feature | `a` | `b:k=1` |\nold\n{table.END}\nafter\n"
    assert table.columns(text) == ["a", "b:k=1"]
    assert table.replaced(text, "new\n") == f"before\n{table.START}\nnew\n{table.END}\nafter\n"
    with pytest.raises(InputError, match="between"):
        table.replaced("no marks", "new\n")


def cells(text):
    """Feature → method → `yes`, `no`, `refused` or `–`, without the numbers of the sentences."""
    lines = [line for line in text.strip().splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    kinds = [[re.sub(r" \(\d+\)", "", cell) for cell in row] for row in rows]
    return {row[0]: {name.strip("`"): kind for name, kind in zip(head[1:], kinds[i][1:])} for i, row in enumerate(rows)}


def test_the_readme_says_what_the_checks_find():
    said = cells(table.between(README.read_text(encoding="utf-8")))
    here = [name for name in table.columns(README.read_text(encoding="utf-8")) if works_here(name)]
    assert {name for name in available() if works_here(name)} <= set(here)
    found = cells(table.markdown(here))
    shown = {feature: {name: row[name] for name in here} for feature, row in said.items()}
    assert found == shown, "run: embpress features --write compressors/README.md"


def works_here(spec):
    return parse(spec).cls.unavailable() is None


def test_a_use_is_one_table_or_several():
    one, several = Use(Subject(Full)), Use(Subject(Full), True)
    assert one.make()(one.ids()).shape == (8, 16)
    assert several.make()(several.ids()).shape == (8, 3, 16)
    module = several.make()
    assert torch.equal(several.answers(module)[:, 1], module.tables[1].to_dense()[torch.arange(97) % 5])
    before = several.answers(module)
    several.step(module)
    assert not torch.equal(several.answers(module), before)
