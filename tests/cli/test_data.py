"""`embpress data`: prepared folders and public data sets, as a user meets them."""

import os
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner
from criteo_lines import lines, write

from embpress.cli.main import main


def run(*args):
    return CliRunner().invoke(main, [str(arg) for arg in args])


@pytest.fixture
def text(tmp_path):
    return write(tmp_path / "a.txt", "".join(lines(200)))


def test_a_prepared_folder_is_taken_as_the_files_are(tmp_path, text):
    made = run("data", "prepare", text, "--to", tmp_path / "to", "--min-count", 1)
    assert made.exit_code == 0, made.output
    assert "144 train, 16 valid, 40 test rows" in made.stdout
    shown = []
    for source in (text, tmp_path / "to"):
        dry = run(
            "compare", source, "--min-count", 1, "--methods", "full,hash", "--ratio", 2, "--min-rows", 5, "--dry-run"
        )
        assert dry.exit_code == 0, dry.output
        shown.append([line.split()[:3] for line in dry.stdout.splitlines() if line.startswith(("full", "hash"))])
    assert shown[0] == shown[1]
    assert len(shown[0]) == 2
    refused = run("train", tmp_path / "to", "--min-count", 3)
    assert refused.exit_code == 2
    assert "min_count is 3, but" in refused.output


def test_mistakes_are_one_sentence(tmp_path, text):
    for args in (
        ("data", "prepare", "--to", tmp_path / "to"),
        ("data", "prepare", tmp_path / "b.txt", "--to", tmp_path / "to"),
        ("data", "prepare", text, "--to", tmp_path),
        ("compare", "--dataset", "criteo-kaggle", tmp_path),
        ("compare", "--dataset", "nothing", text),
    ):
        result = run(*args)
        assert result.exit_code == 2, result.output
        assert result.output.startswith("Error: ")
        assert len(result.output.strip().splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt"]


def test_a_data_set_by_name(tmp_path, text):
    listed = run("data", "list")
    assert listed.exit_code == 0
    assert "criteo-terabyte" in listed.stdout
    text.rename(tmp_path / "train.txt")
    made = run("data", "prepare", "--dataset", "criteo-kaggle", tmp_path, "--to", tmp_path / "to")
    assert made.exit_code == 0, made.output
    assert "144 train, 16 valid, 40 test rows" in made.stdout


def test_a_killed_command_leaves_no_folder_and_the_next_one_none_of_its_files(tmp_path):
    text = write(tmp_path / "a.txt", "".join(lines(400)) * 50)
    command = [sys.executable, "-m", "embpress.cli.main", "data", "prepare", str(text), "--to", str(tmp_path / "to")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(tmp_path.glob(".preparing-*/staged/*.codes")):
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "to").exists()
    assert len(list(tmp_path.iterdir())) == 2
    assert run("data", "prepare", text, "--to", tmp_path / "to").exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "to"]


def test_files_in_the_shells_order_are_told_of(tmp_path):
    rows = lines(120)
    days = [write(tmp_path / f"day_{day}", "".join(rows[10 * day :][:10])) for day in range(12)]
    by_shell = sorted(map(str, days))
    said = (
        "files are read in the order given: day_0, day_1, day_10, day_11, …; a pattern in quotes takes them by number"
    )
    assert said in run("data", "prepare", *by_shell, "--to", tmp_path / "one").stderr
    for number, paths in enumerate((days, [tmp_path / "day_*"], days[2:5])):
        made = run("data", "prepare", *paths, "--to", tmp_path / f"to-{number}")
        assert made.exit_code == 0, made.output
        assert "order given" not in made.stderr
