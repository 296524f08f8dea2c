"""Devices: a test that takes `device`, and every test of a kernel, runs on the CPU and on CUDA where there is one.

A module of tests whose `DEVICE` says where they run is taken at its word.
"""

import importlib.util
import inspect
from pathlib import Path

import pytest
import torch
import two_ranks
from no_hypothesis import install
from on_device import OnDevice

if importlib.util.find_spec("hypothesis") is None:
    install()

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
KERNEL_TESTS = Path(__file__).parent / "kernels" / "ops"  # their tests make tensors on the CPU


def pytest_addoption(parser):
    parser.addoption("--device", choices=["cpu", "cuda"], help="only this device's tests (default: every device's)")


def pytest_configure(config):
    if config.getoption("device") == "cuda" and not torch.cuda.is_available():
        raise pytest.UsageError("--device cuda: torch sees no GPU here")


@pytest.fixture(params=DEVICES, scope="module")
def device(request):
    """`cpu` or `cuda`."""
    return request.param


@pytest.fixture(scope="session")
def ranks(tmp_path_factory):
    """Runs a function of the test file on two ranks of a gloo group, one pair for all tests: what each returned."""
    if not two_ranks.available():
        pytest.skip("torch has no gloo here")
    pair = two_ranks.TwoRanks(tmp_path_factory.mktemp("ranks"))
    yield pair
    pair.end()


def pytest_generate_tests(metafunc):
    """A test of a kernel that does not ask for a device gets one all the same, but for those about the CPU."""
    if DEVICES == ["cpu"] or "device" in metafunc.fixturenames:
        return
    if not _of_a_kernel(metafunc.module) or hasattr(metafunc.module, "DEVICE"):
        return
    if metafunc.definition.get_closest_marker("cpu_only") is None:
        metafunc.fixturenames.append("device")
        metafunc.parametrize("device", DEVICES, indirect=True)


def pytest_collection_modifyitems(config, items):
    asked = config.getoption("device")
    if asked:
        config.hook.pytest_deselected(items=[item for item in items if _device_of(item) != asked])
        items[:] = [item for item in items if _device_of(item) == asked]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    on = _device_of(item)
    own = hasattr(item.module, "DEVICE") or "device" in inspect.signature(item.function).parameters
    if on == "cpu" or own or not _of_a_kernel(item.module):
        yield
        return
    with pytest.MonkeyPatch.context() as patch, OnDevice(on) as mode:
        patch.setenv("EMBPRESS_CHECK", "1")  # without it CUDA looks at no id and reports none
        if hasattr(item.module, "opcheck"):
            patch.setattr(item.module, "opcheck", mode.opcheck(item.module.opcheck))
        yield


def _device_of(item):
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return parameters.get("device") or getattr(item.module, "DEVICE", "cpu")


def _of_a_kernel(module):
    return KERNEL_TESTS in Path(module.__file__).parents
