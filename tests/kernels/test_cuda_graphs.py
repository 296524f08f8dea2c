"""Ops in CUDA graphs: captured once and replayed, they give what the same calls give one by one."""

import pytest
import torch
from op_calls import METHODS, table_calls

from embpress.compressors.methods.tt import TTRec

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="CUDA graphs need a GPU, and torch sees none here"
)


@pytest.fixture(autouse=True)
def unchecked(monkeypatch):
    """Looking at ids means waiting for the device, which a capture forbids."""
    monkeypatch.delenv("EMBPRESS_CHECK", raising=False)


def captured(call):
    """A graph of one call and what it returned, after warm-up beside the current stream."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = call()
    return graph, out


@pytest.mark.parametrize("method", METHODS)
def test_a_captured_lookup_follows_its_ids(method):
    for call in table_calls(METHODS.index(method), (method,)):
        if not call.fixed:
            continue
        on = call.on("cuda")
        on.module.eval()
        with torch.no_grad():
            graph, out = captured(on.forward)
            (ids,) = on.inputs
            ids.copy_(ids.flip(0))
            graph.replay()
            replayed = out.clone()
            assert torch.equal(replayed, on.forward()), call.name
            assert replayed.abs().sum() > 0


@pytest.mark.parametrize("method", METHODS)
def test_a_captured_backward_gives_the_same_gradients(method):
    for call in table_calls(METHODS.index(method), (method,)):
        if not call.fixed:
            continue
        on = call.on("cuda")
        graph, held = captured(lambda on=on: on.gradients())
        for grad in held.values():
            grad.fill_(float("nan"))
        graph.replay()
        replayed = {name: grad.clone() for name, grad in held.items()}
        eager = on.gradients()
        assert replayed.keys() == eager.keys()
        for name, grad in replayed.items():
            torch.testing.assert_close(grad, eager[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("store", [False, True])
def test_captured_training_steps_are_those_one_by_one(store):
    ids = [torch.randint(10_000, (512, 1), generator=torch.Generator().manual_seed(i)).cuda() for i in range(5)]
    target = torch.linspace(-1, 1, 512 * 32, device="cuda").view(512, 32)
    tables = []
    for _ in range(2):
        table = TTRec(10_000, 32, rank=8, store=store, generator=torch.Generator().manual_seed(0)).cuda()
        tables.append((table, torch.optim.SGD(table.parameters(), lr=0.1)))

    def step(table, optimizer, batch):
        optimizer.zero_grad(set_to_none=False)
        (table(batch) - target).square().mean().backward()
        optimizer.step()

    (eager, eager_sgd), (replayed, replayed_sgd) = tables
    static = ids[0].clone()
    start = {name: value.clone() for name, value in replayed.state_dict().items()}
    graph, _ = captured(lambda: step(replayed, replayed_sgd, static))
    replayed.load_state_dict(start)  # the warm-up has trained
    for batch in ids:
        static.copy_(batch)
        graph.replay()
        step(eager, eager_sgd, batch)
    for (name, a), b in zip(replayed.named_parameters(), eager.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
        assert not torch.equal(a, start[name])
