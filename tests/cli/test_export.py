"""`embpress export`: from a training that kept its weights to files, and what is said where there are none."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from embpress.cli.main import main

SMALL = ["--rows", "2000", "--scale", "0.001", "--min-count", "1", "--threads", "1"]
USE = """
import sys
sys.modules["embpress"] = None
sys.path.insert(0, sys.argv[1])
import torch
from load import model
print(*model()(torch.ones(2, 13), torch.zeros(2, 26, dtype=torch.int64)).tolist())
"""


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "été"
    done = run("train", *SMALL, "--method", "hash:k=50", "--keep-weights", "--out", folder)
    assert done.exit_code == 0, done.output
    return folder


def test_from_training_to_another_process(folder, tmp_path):
    out = tmp_path / "dépôt" / "modèle"
    done = run("export", folder, "--to", out)
    assert done.exit_code == 0, done.output
    assert "hash:k=50 · seed 0: tables of " in done.stdout
    assert f"exported: {out}\n" in done.stdout
    for name in ("weights.safetensors", "model.pt2", "manifest.json", "load.py"):
        assert f"{name} " in done.stdout
        assert (out / name).exists()
    assert "largest difference from trained predictions" in done.stdout
    assert (out / "model.onnx").exists() != ("no ONNX file: it needs" in done.stdout)
    used = subprocess.run([sys.executable, "-c", USE, str(out)], capture_output=True, text=True, check=True)
    first, second = map(float, used.stdout.split())
    assert first == pytest.approx(second, abs=1e-6)  # equal rows; a matrix product may round them differently
    assert 0 < first < 1
    again = run("export", folder, "--to", out, "--no-onnx")
    assert again.exit_code == 2
    assert again.stderr == f"Error: {out} is not empty: give a new folder, or empty this one\n"


def test_a_choice_among_runs(folder, tmp_path):
    done = run("train", *SMALL, "--method", "full", "--keep-weights", "--out", folder)
    assert done.exit_code == 0, done.output
    done = run("export", folder, "--to", tmp_path / "a")
    assert done.exit_code == 2
    assert "full seed 0, hash:k=50 seed 0: choose by --method and --seed" in done.stderr
    done = run("export", folder, "--method", "full", "--seed", "0", "--no-onnx", "--to", tmp_path / "a")
    assert done.exit_code == 0, done.output
    assert "full · seed 0: tables of " in done.stdout
    assert "ONNX" not in done.stdout


def test_what_the_user_got_wrong_is_one_sentence(tmp_path):
    done = run("train", *SMALL, "--out", tmp_path / "plain")
    assert done.exit_code == 0, done.output
    assert not (tmp_path / "plain" / "weights").exists()
    for source, sentence in (
        (tmp_path / "plain", "keeps no weights of full seed 0: run its command again with --keep-weights"),
        (tmp_path / "nowhere", "no such run folder, record or checkpoint"),
        ("x" * 300, "is too long"),
    ):
        done = run("export", source, "--to", tmp_path / "served")
        assert done.exit_code == 2
        assert sentence in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert not (tmp_path / "served").exists()
    assert "Missing option '--to'" in run("export", tmp_path).stderr
    done = run("train", "--model", "mine.models:ctr", "--keep-weights")
    assert done.exit_code == 2
    assert "--keep-weights does not go with --model mine.models:ctr" in done.stderr


def test_of_several_sizes_one_is_chosen(tmp_path):
    folder = tmp_path / "run"
    done = CliRunner().invoke(
        main,
        ["compare", "--rows", "3000", "--scale", "0.001", "--min-count", "1", "--threads", "1", "--methods", "hash",
         "--ratio", "4,8", "--keep-weights", "--out", str(folder)],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("use it: "))
    assert " --ratio " in line
    which = ["export", str(folder), "--method", "hash", "--no-onnx", "--to"]
    refused = CliRunner().invoke(main, [*which, str(tmp_path / "a")])
    assert refused.exit_code == 2
    assert (
        "hash --ratio 4 seed 0, hash --ratio 8 seed 0: choose by --method and --seed, and by --ratio" in refused.stderr
    )
    done = CliRunner().invoke(main, [*which, str(tmp_path / "b"), "--ratio", "8"])
    assert done.exit_code == 0, done.output
    assert "8.0×" in done.stdout
