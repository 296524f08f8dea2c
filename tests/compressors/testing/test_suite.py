"""The suite itself: for every check there is a compressor broken in that one way, which the check must reject."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from embpress.compressors import BudgetError, Compressor, Modifier, Tags
from embpress.compressors.group import TableGroup
from embpress.compressors.ledger import Entry
from embpress.compressors.methods.full import Full
from embpress.compressors.methods.hashing import HashingTrick
from embpress.compressors.methods.mlet import MLET
from embpress.compressors.testing import PROMISES, Subject, parametrize_with_checks
from embpress.compressors.testing.serving import check_fold

BROKEN: dict[str, type[Compressor]] = {}


def breaks(check):
    def decorate(cls):
        BROKEN[check] = cls
        return cls

    return decorate


class Plain(Full):
    """A full table without its special routes, so that a fault shows in all calls alike."""

    stacked = ()
    row_parameters = ("weight",)
    group = TableGroup
    arrays = Compressor.arrays  # a plain group puts no rows together from arrays

    def _lookup(self, ids):
        return nn.functional.embedding(ids, self.weight, sparse=self.sparse)


@breaks("check_construction")
class DrawsGlobally(Plain):
    @torch.no_grad()
    def reset_parameters(self, generator=None):
        self.weight.uniform_(-0.1, 0.1)


@breaks("check_repr")
class SilentRepr(Plain):
    def extra_repr(self):
        return f"{self.num_embeddings}, {self.embedding_dim}"


@breaks("check_lookup")
class CountsWhileLooking(Plain):
    group = TableGroup

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.register_buffer("counts", torch.zeros(self.num_embeddings, device=options.get("device")))

    def _lookup(self, ids):
        self.counts.index_add_(0, ids, torch.ones(len(ids)))
        return super()._lookup(ids)


@breaks("check_to_dense")
class TransposedDense(Plain):
    def to_dense(self, rows=None):
        return super().to_dense(rows).flip(0)


@breaks("check_rows_differ")
class OneRow(Plain):
    group = TableGroup

    def _lookup(self, ids):
        return super()._lookup(torch.zeros_like(ids))


@breaks("check_out_of_range")
class WrapsAround(Plain):
    def lookup(self, ids):
        return super().lookup(ids % self.num_embeddings)


@breaks("check_dtypes")
class TakesFloats(Plain):
    def forward(self, input, offsets=None, per_sample_weights=None):
        return super().forward(input.long(), offsets, per_sample_weights)


class SumsRepeatsOnce(TableGroup):
    def bags(self, ids, offsets, weights):
        rows = self.rows(ids.unsqueeze(1)).squeeze(1)
        keep = torch.ones(len(rows), 1, dtype=rows.dtype)
        keep[1:][ids[1:] == ids[:-1]] = 0
        out = rows.new_zeros(len(offsets) - 1, rows.shape[1])
        return out.index_add_(0, torch.arange(len(out)).repeat_interleave(offsets.diff()), rows * keep).unsqueeze(1)


@breaks("check_sum")
class CountsRepeatsOnce(Plain):
    group = SumsRepeatsOnce


class SumsAnyway(TableGroup):
    def bags(self, ids, offsets, weights):
        table = self.tables[0]
        table.mode, mode = "sum", table.mode
        out = super().bags(ids, offsets, weights)
        table.mode = mode
        return out


@breaks("check_mean")
class SumsForMean(Plain):
    group = SumsAnyway


@breaks("check_last_offset")
class IgnoresLastOffset(Plain):
    def forward(self, input, offsets=None, per_sample_weights=None):
        self.include_last_offset, flag = False, self.include_last_offset
        out = super().forward(input, offsets, per_sample_weights)
        self.include_last_offset = flag
        return out


class AddsTheLargestId(TableGroup):
    def bags(self, ids, offsets, weights):
        return super().bags(ids, offsets, weights) + ids.max()


@breaks("check_empty_bags")
class FailsOnNothing(Plain):
    group = AddsTheLargestId


@breaks("check_2d_input")
class FlattensTwoD(Plain):
    def forward(self, input, offsets=None, per_sample_weights=None):
        if input.dim() == 2 and offsets is None:
            input, offsets = input.t().reshape(-1), torch.arange(0, input.numel(), max(1, input.shape[1]))
        return super().forward(input, offsets, per_sample_weights)


class LearnsNoWeights(TableGroup):
    def forward(self, ids, offsets=None, weights=None):
        return super().forward(ids, offsets, None if weights is None else weights.detach())


@breaks("check_weights")
class DetachesWeights(Plain):
    group = LearnsNoWeights


class NoPadding(TableGroup):
    def __init__(self, tables, names=(), *, alone=False):
        super().__init__(tables, names, alone=alone)
        self.integers["padding"] = [-1] * len(self.tables)


@breaks("check_padding")
class IgnoresPadding(Plain):
    group = NoPadding


@breaks("check_bad_offsets")
class SortsOffsets(Plain):
    def forward(self, input, offsets=None, per_sample_weights=None):
        offsets = None if offsets is None else offsets.sort().values
        return super().forward(input, offsets, per_sample_weights)


@breaks("check_refusals")
class TakesMax(Plain):
    def __init__(self, *args, mode="sum", **options):
        super().__init__(*args, mode="sum" if mode == "max" else mode, **options)


@breaks("check_gradients")
class HalfGradient(Plain):
    group = TableGroup

    def _lookup(self, ids):
        rows = super()._lookup(ids)
        return rows.detach() / 2 + rows / 2


@breaks("check_repeated_ids")
class ClipsRepeats(Plain):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.weight.register_hook(lambda grad: grad.clamp(max=1))


@breaks("check_sparse")
class DenseAnyway(Plain):
    group = TableGroup

    def _lookup(self, ids):
        return nn.functional.embedding(ids, self.weight)


@breaks("check_fused")
class NotFused(Plain):
    tags = Tags(fused_update=True)


@breaks("check_training")
class Detached(Plain):
    group = TableGroup

    def _lookup(self, ids):
        return super()._lookup(ids).detach() + 0 * self.weight.sum()


@breaks("check_state_dict")
class HiddenSeed(Plain):
    group = TableGroup

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.shift = float(self.weight[0, 0])

    def _lookup(self, ids):
        return super()._lookup(ids) + self.shift


@breaks("check_copies")
class ShallowCopy(Plain):
    def __deepcopy__(self, memo):
        return copy.copy(self)


@breaks("check_fold")
class FoldsRounded(Plain):
    def fold(self):
        folded = super().fold()
        folded.weight.data = folded.weight.half().float()
        return folded


@breaks("check_ledger")
class HiddenIndex(Plain):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.cache = {"index": [torch.arange(self.num_embeddings)]}  # hidden in a plain attribute


@breaks("check_activations")
class IndexPerElement(Plain):
    """Keeps an int64 for every element, as published ROBE kernels do, and does not say so."""

    group = TableGroup

    def _lookup(self, ids):
        index = (ids.unsqueeze(1) * self.embedding_dim + torch.arange(self.embedding_dim)).repeat_interleave(4, 1)
        return self.weight.view(-1).gather(0, index.view(-1)).view(len(ids), -1, 4).mean(-1)


@breaks("check_serving_size")
class ForgetsConstants(HashingTrick):
    @classmethod
    def serving_size(cls, n, dim, *, k=None, parts=1):
        return 4 * dim * (k or -(-n // 10))


@breaks("check_budget")
class OverBudget(HashingTrick):
    @classmethod
    def for_budget(cls, n, dim, size, *, parts=1):
        if size < 4 * dim:
            raise BudgetError("too small", 4 * dim)
        return {"k": min(n, -(-size // (4 * dim)))}


@breaks("check_split")
class SplitsTooMuch(HashingTrick):
    tags = Tags(for_budget=True, splits_budget=True)

    @classmethod
    def split_budget(cls, shapes, size, **fixed):
        if size < 10_000:
            raise BudgetError("too small", 10_000)
        return [cls.for_budget(n, dim, size, **fixed) for n, dim in shapes]


@breaks("check_from_dense")
class HidesItsError(Plain):
    @classmethod
    def from_dense(cls, weight, **options):
        table = cls(*weight.shape, **options)
        table.weight.data = weight.half().float()
        return table, 0.0


class SwapsTables(TableGroup):
    def rows(self, ids):
        return super().rows(ids).flip(1)


@breaks("check_collection")
class SwappedGroup(Plain):
    group = SwapsTables


class DetachesAll(TableGroup):
    def rows(self, ids):
        return super().rows(ids).detach() + 0 * sum(p.sum() for p in self.parameters())


@breaks("check_collection_gradients")
class DetachedGroup(Plain):
    group = DetachesAll


class FrozenRows(TableGroup):
    def __init__(self, tables, names=(), *, alone=False):
        super().__init__(tables, names, alone=alone)
        self.dense = [table.weight.detach().clone() for table in self.tables]

    def rows(self, ids):
        return torch.stack([rows[ids[:, t]] for t, rows in enumerate(self.dense)], 1)


@breaks("check_collection_copies")
class SnapshotGroup(Plain):
    group = FrozenRows


@breaks("check_collection_ledger")
class CountsItselfTwice(Plain):
    def _serving(self):
        return [*super()._serving(), Entry("again", 4)]


class _Shifted(Full.group):
    def assemble(self, ids, tables, take):
        return take("weight", (ids + 1) % self.first.num_embeddings)


@breaks("check_arrays")
class PutsOtherRowsTogether(Full):
    group = _Shifted


@breaks("check_tags")
class PromisesTooMuch(Plain):
    tags = replace(Plain.tags, for_budget=True)


class ForgetsWeights(TableGroup):
    def bags(self, ids, offsets, weights):
        return super().bags(ids, offsets, None)


@breaks("check_collection_bags")
class UnweightedGroup(Plain):
    group = ForgetsWeights


def test_every_check_has_a_broken_compressor():
    assert set(BROKEN) == {check.__name__ for check in PROMISES}


@pytest.mark.parametrize("check", PROMISES, ids=lambda check: check.__name__)
def test_a_broken_compressor_is_rejected(check):
    with pytest.raises(Exception) as caught:  # noqa: PT011 - what exactly differs from check to check
        check(Subject(BROKEN[check.__name__]))
    assert not isinstance(caught.value, (NameError, AttributeError)), "the check fell over itself"


@pytest.mark.parametrize("check", PROMISES, ids=lambda check: check.__name__)
def test_the_plain_table_that_the_broken_ones_derive_from_passes(check):
    check(Subject(Plain))


def test_known_failures_are_strict_and_must_name_checks():
    mark = parametrize_with_checks([MLET], expected_failures={"mlet": {"check_fold": "because"}})
    marked = [p for p in mark.args[1] if p.marks]
    assert [p.id for p in marked] == ["mlet-check_fold"]
    assert marked[0].marks[0].kwargs == {"reason": "because", "strict": True}
    with pytest.raises(ValueError, match="check_nonsense"):
        parametrize_with_checks([MLET], expected_failures={"mlet": {"check_nonsense": "x"}})


def test_a_modifier_of_serving_that_shows_in_training_is_found():
    class Shows(Modifier):
        at_fold = True

        def _lookup(self, ids):
            return self.table._lookup(ids).half().float()

        lookup = _lookup

        def fold(self):
            return Shows(self.table.fold()).eval()

    class Wrapped(Subject):
        served_error = 1e-3

        def wrap(self, table):
            return Shows(table)

    with pytest.raises(AssertionError, match="a modifier of serving shows before fold"):
        check_fold(Wrapped(Plain))
    Shows.at_fold = False
    check_fold(Wrapped(Plain))
