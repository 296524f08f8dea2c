"""Wheel and editable install: embpress.* is there, and another package named `kernels` is left alone."""

import shutil
import subprocess
import sys
import sysconfig

import pytest
from paths import ROOT

FOLDERS = ("compressors", "kernels", "dlrm", "reports", "cli")
PROBE = """
import kernels, embpress, embpress.kernels, embpress.compressors
import embpress.dlrm.data, embpress.reports, embpress.cli.main
assert kernels.WHOSE == "somebody else's"
from embpress.kernels import ops
assert embpress.__version__ == "0.1.0" and embpress.create("hash", 100, 8).num_embeddings == 100
print(embpress.kernels.__file__, embpress.compressors.available(), ops.backend("tt_embedding_bag"))
"""


def run(*command, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=600, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def source(tmp_path):
    """A copy of what is installed from, so that building leaves nothing in the checkout."""
    copy = tmp_path / "source"
    copy.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "__init__.py", "py.typed"):
        shutil.copy(ROOT / name, copy)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    return copy


@pytest.fixture
def python(tmp_path):
    """A new environment that sees this one's packages, but not its embpress; it holds another package `kernels`."""
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    site = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    # a path in a .pth adds a folder without running that folder's own .pth files, where editable installs live
    (site / "outer.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (site / "kernels").mkdir()
    (site / "kernels" / "__init__.py").write_text('WHOSE = "somebody else\'s"\n')
    return tmp_path / "venv" / "bin" / "python"


@pytest.mark.parametrize(("kind", "compiler"), [("wheel", True), ("editable", True), ("editable", False)])
def test_install(kind, compiler, source, python, tmp_path, monkeypatch):
    if not compiler:  # nothing to compile with: everything works, on the plain PyTorch ops
        monkeypatch.setenv("CXX", "no-such-compiler")
        monkeypatch.setenv("CC", "no-such-compiler")
    elif shutil.which("c++") is None:
        pytest.skip("no C++ compiler here")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    if kind == "wheel":
        run(
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "-q",
            "--no-build-isolation",
            "--no-deps",
            "-w",
            tmp_path,
            ".",
            cwd=source,
        )
        (wheel,) = tmp_path.glob("embpress-*.whl")
        run(*pip, "install", "-q", "--no-deps", "--no-index", wheel)
        home = python.parents[1]
    else:
        run(*pip, "install", "-q", "--no-build-isolation", "--no-deps", "-e", source)
        home = source
    shown = run(python, "-c", PROBE, cwd=tmp_path)
    assert str(home) in shown
    assert "'tt'" in shown
    assert shown.split()[-1] == ("native" if compiler else "reference")
    assert "usage" in run(python.parent / "embpress", "--help", cwd=tmp_path).lower()
    run(*pip, "uninstall", "-q", "-y", "embpress")
    assert "somebody" in run(python, "-c", "import kernels; print(kernels.WHOSE)", cwd=tmp_path)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_refuses_its_bare_name(folder):
    done = subprocess.run([sys.executable, "-c", f"import {folder}"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"import embpress.{folder}" in done.stderr
