"""The DLRM against a model written out by hand, and its optimizers against torch's."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from embpress.compressors import TableCollection, TableConfig
from embpress.dlrm.measure.latency import zipf_ids
from embpress.dlrm.models.dlrm import DLRM, PairwiseDots, pair_indices
from embpress.dlrm.models.mlp import mlp
from embpress.dlrm.training.evaluate import scores
from embpress.dlrm.training.optim import TableAdagrad, make_optimizers

SIZES = [50, 3, 20]


def model(method="full", **options):
    g = torch.Generator().manual_seed(0)
    tables = TableCollection.build(
        [TableConfig(n, 4, f"t{n}") for n in SIZES], method, min_rows=0, generator=g, **options
    )
    return DLRM(5, tables, [7], [6], g)


def test_logits_are_those_of_a_dlrm_written_out():
    m = model()
    dense, ids = torch.rand(2, 5), torch.tensor([[0, 1, 2], [49, 2, 19]])
    for b in range(2):
        vectors = [m.bottom(dense[b])] + [t.to_dense()[i] for t, i in zip(m.tables.tables, ids[b])]
        dots = [torch.dot(vectors[i], vectors[j]) for i in range(4) for j in range(i)]
        want = m.top(torch.cat([vectors[0], torch.stack(dots)]))
        torch.testing.assert_close(m(dense, ids)[b], want[0])


def test_gradient_of_the_interaction():
    vectors = torch.randn(3, 5, 4, dtype=torch.float64, requires_grad=True)
    below, of_entry = pair_indices(5)
    assert torch.autograd.gradcheck(lambda v: PairwiseDots.apply(v, below, of_entry), (vectors,))


def test_initial_values_are_the_references():
    layers = [m for m in mlp([400, 300, 200], torch.Generator().manual_seed(0), False) if isinstance(m, nn.Linear)]
    for layer in layers:
        out, into = layer.weight.shape
        assert float(layer.weight.detach().std()) == pytest.approx(math.sqrt(2 / (into + out)), rel=0.02)
        assert float(layer.bias.detach().std()) == pytest.approx(math.sqrt(1 / out), rel=0.15)


@pytest.mark.parametrize("name", ["sgd", "adagrad"])
def test_sparse_and_dense_gradients_train_alike(name):
    """Five steps with sparse gradients against torch's own optimizer with dense ones."""
    sparse, dense = model(sparse=True), model(sparse=False)
    reference = {"sgd": torch.optim.SGD, "adagrad": torch.optim.Adagrad}[name](dense.parameters(), lr=0.1)
    mine = make_optimizers(sparse, name, 0.1)
    g = torch.Generator().manual_seed(1)
    for _ in range(5):
        x, y = torch.rand(8, 5, generator=g), torch.rand(8, generator=g).round()
        ids = torch.stack([torch.randint(0, n, (8,), generator=g) for n in SIZES], 1)
        for m, optimizers in ((sparse, mine), (dense, [reference])):
            F.binary_cross_entropy_with_logits(m(x, ids), y).backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
    for a, b in zip(sparse.parameters(), dense.parameters()):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("sparse", [True, False])
def test_rowwise_adagrad_by_hand(sparse):
    table = nn.Embedding(6, 3, sparse=sparse)
    start = table.weight.detach().clone()
    optimizer = TableAdagrad(table.parameters(), lr=0.5, rowwise=True)
    ids, slope = torch.tensor([4, 1, 4]), torch.tensor([[1.0, 2, 3], [4, 5, 6], [-3, 0, 1]])
    want, state = start.clone(), torch.zeros(6)
    for _ in range(2):
        (table(ids) * slope).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        grad = torch.zeros(6, 3).index_add_(0, ids, slope)
        state += grad.square().mean(1)
        want -= 0.5 * grad / (state.sqrt() + 1e-10).unsqueeze(1)
    torch.testing.assert_close(table.weight.detach(), want)
    assert optimizer.state[table.weight]["sum"].shape == (6,)


def test_scores_count_ties_half_and_survive_huge_logits():
    labels = torch.tensor([0.0, 1, 0, 1])
    assert scores(torch.tensor([1.0, 1, 1, 1]), labels)["auc"] == 0.5
    assert scores(torch.tensor([40.0, 41, 42, 43]), labels)["auc"] == 0.75  # a float32 sigmoid would see ties
    assert math.isnan(scores(torch.tensor([1.0, 2]), torch.tensor([1.0, 1]))["auc"])


def test_zipf_ids_follow_the_law():
    ids = zipf_ids([1000, 1], 200_000, torch.Generator().manual_seed(0), exponent=1.0001)
    assert int(ids.min()) == 0
    assert int(ids[:, 0].max()) == 999
    assert not ids[:, 1].any()
    counts = torch.bincount(ids[:, 0], minlength=1000).double()
    # P(k) ~ log((k + 2) / (k + 1)) / log(1001)
    want = torch.log1p(1 / torch.arange(1, 1001).double()) / math.log(1001)
    torch.testing.assert_close(counts[:20] / 200_000, want[:20], rtol=0.12, atol=0)
