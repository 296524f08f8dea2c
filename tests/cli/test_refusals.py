"""Options far out of range, paths that can be none, an output that is full: one sentence, exit status 2."""

import os
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from embpress.cli.main import main


def refused(*arguments):
    start = time.perf_counter()
    done = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.output
    assert time.perf_counter() - start < 30
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("Error: ")
    return line


HUGE = "9" * 5000


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--threads", "100000", ["--threads", "between 1 and"]),
        ("--seeds", "100000", ["--seeds", "between 1 and 1,000"]),
        ("--rows", "1000000000000", ["rows", "memory"]),
        ("--rows", "1e12", ["--rows", "'1e12'", "whole number"]),
        ("--width", "1000000", ["width", "65,536"]),
        ("--batch-size", "100000000000", ["batch_size", "16,777,216"]),
        ("--epochs", "10000000000", ["epochs", "1,000,000"]),
        ("--lr", "inf", ["learning rate", "finite"]),
        ("--lr", "nan", ["learning rate", "positive"]),
        *((option, HUGE, [option, "whole number", "5,002 characters"])
          for option in ("--threads", "--seeds", "--rows", "--width", "--batch-size", "--epochs", "--min-rows",
                         "--largest", "--split-seed", "--min-count")),
        ("--scale", "many", ["scale", "'many'", "number"]),
        ("--dense", HUGE, ["dense", "whole number"]),
        ("--seeds", "0", ["--seeds", "between 1 and 1,000"]),
        ("--top", "3,,4", ["top", "''", "whole number"]),
        ("--out", "", ["--out", "empty"]),
        ("--out", "a" * 5000, ["--out", "too long"]),
        ("--out", "a" * 300, ["--out", "too long"]),
        ("--out", "a\udcff", ["--out", "UTF-8"]),
    ],
)  # fmt: skip
def test_options_out_of_range(option, value, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = refused("compare", "--rows", "3000", "--methods", "full", option, value)
    assert all(word in message for word in words), message
    assert len(message) < 300
    assert not list(tmp_path.iterdir())


def test_a_knob_that_no_table_can_have_is_refused_though_none_is_compressed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = refused("compare", "--rows", "3000", "--min-rows", "100000000", "--methods", "full,tt:rank=-3")
    assert "rank=-3" in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seed", ["-1", str(2**41), HUGE])
def test_a_seed_out_of_range(seed):
    assert "--seed" in refused("train", "--rows", "3000", "--seed", seed)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
@pytest.mark.parametrize("arguments", [["compare", "--help"], ["report", "{folder}", "--format", "csv"]])
def test_a_full_output(arguments, tmp_path):
    """In the middle of what is printed as well as at its end."""
    if arguments[0] == "report":
        run = ["train", "--rows", "3000", "--scale", "0.001", "--threads", "1", "--out", str(tmp_path)]
        assert CliRunner().invoke(main, run).exit_code == 0
        arguments = [argument.format(folder=tmp_path) for argument in arguments]
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "embpress.cli.main", *arguments]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "Error: standard output cannot be written: No space left on device; send it elsewhere"
    ]


def test_ctrl_c_is_one_sentence_and_the_same_command_goes_on(tmp_path):
    run = [sys.executable, "-m", "embpress.cli.main", "compare", "--rows", "3000", "--scale", "0.001", "--methods"]
    run += ["full,hash:k=9,qr:c=4,robe:z=4:ratio=9", "--threads", "1", "--seeds", "9", "--out", str(tmp_path)]
    process = subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.time() + 120
    while not list(tmp_path.glob("records/*.json")) and time.time() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=60)
    assert process.returncode == 130
    assert shown.splitlines()[-1].startswith("Interrupted: runs that ended are saved in ")
    assert "Traceback" not in shown
    assert not list(tmp_path.glob("records/.writing-*"))


@pytest.mark.parametrize(
    ("header", "options", "words"),
    [
        ("click;ad;age", [], ["line 1", "no comma but ';'", "commas between its columns"]),
        ("click\tad", [], ["no comma but '\\t'"]),
        ('click,"ad,id"', ["--sparse", "ad,id"], ["no column 'ad'", "'ad,id' has a comma in its name"]),
    ],
)
def test_separators_of_columns(header, options, words, tmp_path):
    (tmp_path / "clicks.csv").write_text(header + "\n" + "0;1,2\n" * 9)
    message = refused("compare", tmp_path / "clicks.csv", *options, "--out", tmp_path / "run")
    assert all(word in message for word in words), message


def test_a_reader_that_goes_away_is_no_mistake():
    command = f"{sys.executable} -m embpress.cli.main list | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
