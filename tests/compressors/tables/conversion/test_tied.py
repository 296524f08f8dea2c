"""Linear layers that have a table's weight: they compute with the compressed table."""

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

from embpress.compressors import compress_model, create, linear
from embpress.compressors.tables.conversion.modules import CompressedLinear

METHODS = ["full", "hash:k=40", "qr:c=4", "mlet:k=16", "tt:rank=4", "robe:z=4", "robe:z=4+bf16"]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Language(nn.Module):
    """Tokens in, scores of tokens out, with one weight."""

    def __init__(self, bias=True):
        super().__init__()
        self.tokens = nn.Embedding(500, 8)
        self.body = nn.Linear(8, 8)
        self.head = nn.Linear(8, 500, bias=bias)
        self.head.weight = self.tokens.weight

    def forward(self, ids):
        return self.head(torch.tanh(self.body(self.tokens(ids))))


@pytest.mark.parametrize("block", [7, 64, 500, 1000])
@pytest.mark.parametrize("method", METHODS)
def test_it_is_a_linear_layer_of_the_rows_written_out(method, block):
    """Outputs and all gradients are those of the table written out, whatever the blocks."""
    table = create(method, 500, 8, dtype=torch.float64, generator=seeded())
    x = torch.randn(3, 5, 8, dtype=torch.float64, generator=seeded(1), requires_grad=True)
    bias = torch.randn(500, dtype=torch.float64, generator=seeded(2), requires_grad=True)
    learned = [*table.parameters(), x, bias]
    got = linear(table, x, bias, block)
    want = F.linear(x, table.lookup(torch.arange(500)), bias)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(linear(table, x, None, block), want - bias)
    seen = torch.randn(want.shape, dtype=torch.float64, generator=seeded(3))
    for one, other in zip(torch.autograd.grad(got, learned, seen), torch.autograd.grad(want, learned, seen)):
        torch.testing.assert_close(one, other)


def test_no_more_rows_than_a_block_are_kept_or_made_at_once():
    table = create("tt:rank=2", 5000, 16, generator=seeded())
    x = torch.randn(2, 16, requires_grad=True)
    asked, kept = [], []
    lookup = table.lookup
    table.lookup = lambda ids: asked.append(len(ids)) or lookup(ids)
    with saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        out = linear(table, x, block=100)
    out.sum().backward()
    assert max(asked) == 100
    assert len(asked) == 100  # once forward, once backward
    assert max(kept, default=0) <= max(x.numel(), max(p.numel() for p in table.parameters()))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_a_tied_model_computes_with_one_table(method, bias):
    model = Language(bias)
    kept = model.head.bias
    done = compress_model(model, method, generator=seeded())
    assert isinstance(model.head, CompressedLinear)
    assert model.head.bias is kept
    assert done["module"].tolist() == ["tokens", "head"]
    assert done["bytes_after"].tolist() == [model.tokens.table.ledger().serving_bytes, 0]
    assert "tokens" in done["note"][1]
    ids = torch.tensor([[3, 499], [0, 3]])
    rows = model.tokens(torch.arange(500))
    want = F.linear(torch.tanh(model.body(rows[ids])), rows, kept)
    torch.testing.assert_close(model(ids), want)
    names = [name for name, _ in model.named_parameters()]
    assert len(names) == len(model.state_dict().keys() & set(names))
    assert not any(name.startswith("head.") for name in names if name != "head.bias")


def test_it_trains_and_the_gradient_has_both_parts():
    model = Language()
    compress_model(model, "hash:k=50", generator=seeded())
    ids = torch.arange(500)
    (weight,) = model.tokens.table.parameters()
    out = model(ids)
    (both,) = torch.autograd.grad(F.cross_entropy(out, ids), weight)
    hidden = torch.tanh(model.body(model.tokens(ids)))
    alone = F.cross_entropy(model.head(hidden.detach()), ids)
    (of_head,) = torch.autograd.grad(alone, weight)
    dense = model.tokens(ids).detach()
    through = F.cross_entropy(F.linear(hidden, dense, model.head.bias), ids)
    (of_tokens,) = torch.autograd.grad(through, weight)
    torch.testing.assert_close(both, of_head + of_tokens)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    losses = []
    for _ in range(60):
        loss = F.cross_entropy(model(ids[:40]), ids[:40])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_parameters_exchanged_between_forward_and_backward_are_refused():
    head = CompressedLinear(create("hash:k=20", 10_000, 8, generator=seeded()), None)  # of more than one block
    other = {name: torch.ones_like(p, requires_grad=True) for name, p in head.named_parameters()}
    out = torch.func.functional_call(head, other, (torch.ones(2, 8),))
    assert torch.equal(out, torch.full((2, 10_000), 8.0))
    with pytest.raises(RuntimeError, match="exchanged"):
        out.sum().backward()


def test_a_start_from_trained_weights_gives_the_heads_outputs():
    model = Language()
    ids = torch.tensor([1, 2, 3])
    with torch.no_grad():
        model.tokens.weight.copy_((torch.arange(500.0)[:, None] * 0.01 + torch.arange(8.0)).sin())  # of low TT rank
    want = model(ids).detach()
    done = compress_model(model, "tt", ratio=2, from_weights=True)
    assert done["error"][0] < 1e-4
    torch.testing.assert_close(model(ids), want, rtol=1e-3, atol=1e-3)


class Own(nn.Linear):
    """A linear layer that may compute something else."""


def tied_to(head):
    model = nn.Module()
    model.tokens, model.other = nn.Embedding(500, 8), nn.Embedding(500, 8)
    model.head = head
    model.head.weight = model.tokens.weight
    return model


@pytest.mark.parametrize(
    ("head", "says"),
    [(Own(8, 500), "head.weight of a Own"), (nn.LayerNorm((500, 8)), "head.weight of a LayerNorm")],
)
def test_what_is_tied_otherwise_is_left_full_and_said(head, says):
    model = tied_to(head)
    done = compress_model(model, "hash", ratio=1.9)
    assert isinstance(model.tokens, nn.Embedding)
    assert model.head.weight is model.tokens.weight
    assert says in done["note"][0]
    assert done["method"].tolist() == ["full", "hash"]
    # the ratio counts the table that stays
    assert done.attrs["ratio"] == done["bytes_before"].sum() / done["bytes_after"].sum() >= 1.9
    with pytest.raises(ValueError, match=f"smallest reachable .*left full: tokens .*{says}"):
        compress_model(tied_to(head), "hash", ratio=10)


def test_hooks_on_the_head_keep_it():
    model = Language()
    model.head.register_forward_hook(lambda *_: None)
    model.more = nn.Embedding(500, 8)
    assert "head.weight" in compress_model(model, "hash")["note"][0]
    assert type(model.head) is nn.Linear
