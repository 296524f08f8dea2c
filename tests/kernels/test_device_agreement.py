"""Every op on random shapes on each device in float32, against the CPU in float64."""

import pytest
import torch
from op_calls import METHODS, plain_calls, table_calls
from torch.utils._python_dispatch import TorchDispatchMode

from embpress.compressors import available
from embpress.compressors.registry import method
from embpress.kernels import ops

SEEDS = (0, 1, 2)


def close(found, exact, what):
    """Equal up to the rounding of float32 sums, by the largest value."""
    scale = max(float(exact.abs().max()), 1e-6) if exact.numel() else 1.0
    torch.testing.assert_close(
        found.double().cpu() / scale, exact / scale, rtol=1e-4, atol=2e-5, msg=lambda text: f"{what}: {text}"
    )


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("method", METHODS)
def test_tables_agree(method, seed, device):
    calls = list(table_calls(100 * seed + METHODS.index(method), (method,)))
    assert len(calls) == 3
    for call in calls:
        exact, found = call.on("cpu", torch.float64), call.on(device)
        with torch.no_grad():
            rows = found.forward()
            assert rows.device.type == device
            close(rows, exact.forward(), f"{call.name}: rows")
        want, gradients = exact.gradients(), found.gradients()
        assert gradients.keys() == want.keys()
        for name, grad in gradients.items():
            close(grad, want[name], f"{call.name}: gradient of {name}")


@pytest.mark.parametrize("seed", SEEDS)
def test_ops_of_caches_agree(seed, device):
    for call in plain_calls(seed):
        for found, want in zip(call.run(device), call.run("cpu")):
            assert torch.equal(found, want), call.name


def test_every_op_and_every_method_is_called():
    names = set()

    class Called(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func.namespace == "embpress":
                names.add(func.name().removeprefix("embpress::"))
            return func(*args, **(kwargs or {}))

    with Called():
        for call in table_calls(0):
            copied = call.on("cpu")
            copied.gradients()
            with torch.no_grad():
                copied.forward()
        for plain in plain_calls(0):
            plain.run("cpu")
    assert set(ops.names()) <= names
    assert {method(name).lookup_op for name in available()} - {""} <= names
