"""Where nothing is compiled, plain PyTorch keeps the same promises."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from embpress.kernels import load

PROMISES = Path(__file__).parent / "ops" / "test_promises.py"


def test_plain_pytorch_keeps_every_promise(tmp_path):
    if load.ENVIRONMENT in os.environ:
        pytest.skip(f"{load.ENVIRONMENT} is set: this run is about that build alone")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--device", "cpu", str(PROMISES)],
        env={**os.environ, load.ENVIRONMENT: str(tmp_path / "none.so")},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-3000:]
