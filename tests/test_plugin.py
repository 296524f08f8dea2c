"""The example of a plug-in, installed as a package of its own: it is listed, compared, and passes its tests."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from paths import ROOT

SMALL = ["--rows", "4000", "--scale", "0.001", "--min-count", "1", "--threads", "1", "--min-rows", "50"]


def run(*command, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=600, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A copy of the package, so that building leaves nothing in the checkout, and what finds it and this embpress."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(ROOT / "examples" / "plugin", folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-index"]
    run(*pip, "--no-deps", "--no-build-isolation", "--target", folder / "site", folder / "source")
    path = os.pathsep.join([str(folder / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    return folder / "source", {**os.environ, "PYTHONPATH": path}


def embpress(environment, *arguments, **options):
    return run(sys.executable, "-m", "embpress.cli.main", *arguments, env=environment, **options)


def test_it_is_listed_by_being_installed(installed, tmp_path):
    _, environment = installed
    shown = embpress(environment, "list", cwd=tmp_path)
    assert "weighted-hash" in shown
    assert "+max-norm" in shown
    assert "broken" not in shown
    assert "weighted-hash" not in embpress(dict(os.environ), "list", cwd=tmp_path)


def test_it_is_compared_as_any_method(installed, tmp_path):
    _, environment = installed
    methods = "full,hash,weighted-hash,weighted-hash+max-norm:at=0.5,full+max-norm:at=0.1"
    embpress(environment, "compare", *SMALL, "--methods", methods, "--ratio", "4,30", "--out", tmp_path / "runs")
    records = [json.loads(path.read_text()) for path in (tmp_path / "runs" / "records").glob("*.json")]
    found = {(record["method"], record["asked"]["ratio"]): record for record in records}
    for method in ("weighted-hash", "weighted-hash+max-norm:at=0.5"):
        assert found[method, 4.0]["status"] == "ok"
        assert 4 <= found[method, 4.0]["metrics"]["ratio"] < 4.2
        assert found[method, 30.0]["status"] == "cannot reach"  # it keeps two numbers an id of width 16
    plain, bounded = found["full", None]["metrics"], found["full+max-norm:at=0.1", None]["metrics"]
    assert plain["serving_bytes"] == bounded["serving_bytes"]
    assert plain["auc"] != bounded["auc"]
    assert "weighted-hash" in (tmp_path / "runs" / "report.md").read_text()


def test_its_own_tests_pass(installed):
    source, environment = installed
    shown = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=source, env=environment)
    assert " passed" in shown
    assert "failed" not in shown
