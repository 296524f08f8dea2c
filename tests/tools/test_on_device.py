"""Kernels' tests on another device: what `OnDevice` moves and brings back, seen with copies on the CPU."""

import subprocess
import sys

import pytest
import torch
from on_device import OnDevice
from torch.library import opcheck
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from embpress.kernels import ops


class Arguments(TorchDispatchMode):
    """Where the tensors that ops get lie in memory."""

    def __init__(self):
        super().__init__()
        self.addresses, self.strides = [], []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "embpress":
            tensors = [tensor for tensor in tree_leaves(args) if isinstance(tensor, torch.Tensor)]
            self.addresses += [tensor.data_ptr() for tensor in tensors]
            self.strides += [tensor.stride() for tensor in tensors]
        return func(*args, **(kwargs or {}))


def copies():
    """Instead of another device: other memory."""
    return OnDevice("cpu", move=lambda tensor: tensor.clone())


IDS = torch.tensor([[1], [2], [3]])


def cores():
    """Of one table: 4 rows of width 4, rank 3."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, requires_grad=True) for shape in ((2, 1, 2, 3), (2, 3, 2, 1))]


def rows(own):
    return ops.tt_embedding_bag(own, IDS, num_embeddings=[4], num_cores=2)


def test_an_op_gets_moved_tensors_and_its_gradients_come_back():
    own, same = cores(), cores()
    with copies() as mode, Arguments() as seen:
        out = rows(own)
        out.square().sum().backward()
    assert mode.calls == 1
    assert len(seen.addresses) >= 3
    assert not {tensor.data_ptr() for tensor in (*own, IDS)} & set(seen.addresses)
    want = rows(same)
    want.square().sum().backward()
    assert torch.equal(out, want)
    assert all(torch.equal(a.grad, b.grad) and a.grad.abs().sum() > 0 for a, b in zip(own, same))


def test_what_an_op_changes_in_place_is_brought_back():
    keys, counts, used = torch.full((16,), -1), torch.zeros(16, dtype=torch.int64), torch.zeros((), dtype=torch.int64)
    with copies():
        ops.count_ids(keys, counts, used, torch.tensor([3, 3, 8]))
    assert dict(zip(keys.tolist(), counts.tolist())) == {-1: 0, 3: 2, 8: 1}
    assert int(used) == 2


@pytest.mark.parametrize(
    "view",
    [
        lambda base: base[:, ::2].view(4, 1, 2, 3)[::2],
        lambda base: base[:, :3].reshape(2, 2, 3).transpose(0, 1).unsqueeze(1),
        lambda base: base[:1, :3].expand(2, 3).view(2, 1, 3).unsqueeze(1).expand(2, 1, 2, 3),
    ],
    ids=["every second", "transposed", "expanded"],
)
def test_a_moved_tensor_keeps_its_strides_and_its_gradient(view):
    found, want = (torch.linspace(-1, 1, 48).view(4, 12).requires_grad_() for _ in range(2))
    second = cores()[1]
    with copies(), Arguments() as seen:
        first = view(found)
        assert not first.is_contiguous()
        rows([first, second]).square().sum().backward()
    assert seen.strides[0] == first.stride()
    assert first.data_ptr() not in seen.addresses
    rows([view(want), second]).square().sum().backward()
    assert found.grad.abs().sum() > 0
    torch.testing.assert_close(found.grad, want.grad)


def test_tensors_that_are_elsewhere_already_are_left_there():
    own = [core.detach().to("meta") for core in cores()]
    with copies() as mode:
        out = ops.tt_embedding_bag(own, IDS.to("meta"), num_embeddings=[4], num_cores=2)
    assert out.device.type == "meta"
    assert mode.calls == 0


def test_opcheck_gets_leaves_of_the_device():
    arguments = (cores(), [], IDS, None, None, [4], [], 2, False, True)
    with copies() as mode:
        found = mode.opcheck(opcheck)(torch.ops.embpress.tt_embedding_bag.default, arguments, test_utils="test_schema")
    assert found == {"test_schema": "SUCCESS"}
    assert mode.active


def test_without_hypothesis_its_tests_are_skipped_and_the_others_run(tmp_path, request):
    (tmp_path / "test_some.py").write_text(
        "from importlib.util import find_spec\n"
        "from hypothesis import HealthCheck, example, given, settings\n"
        "from hypothesis import strategies as st\n"
        "@st.composite\n"
        "def pairs(draw): return draw(st.tuples(st.integers(), st.integers()))\n"
        "@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])\n"
        "@given(pairs(), st.one_of(st.none(), st.lists(st.integers(), max_size=3)))\n"
        "def test_driven(pair, other): assert False\n"
        "def test_plain(): assert find_spec('hypothesis').origin is None\n"
    )
    support = request.config.rootpath / "tests" / "support"
    (tmp_path / "conftest.py").write_text(
        f"import sys; sys.path.insert(0, {str(support)!r})\nfrom no_hypothesis import install\ninstall()\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert "1 passed, 1 skipped" in done.stdout, done.stdout
    assert "hypothesis is not installed" in done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_asking_for_a_gpu_that_is_not_there_is_a_mistake(request):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--device", "cuda", "tests/kernels/ops/test_robe.py"],
        capture_output=True,
        text=True,
        cwd=request.config.rootpath,
    )
    assert done.returncode == 4
    assert "torch sees no GPU here" in done.stderr + done.stdout
