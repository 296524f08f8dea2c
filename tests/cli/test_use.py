"""The command that a report gives for its answer does what it says, and so does the line for a model of one's own."""

import re
import shlex
import sys

import torch
from click.testing import CliRunner

from embpress import compress_model
from embpress.cli.main import main

SMALL = ["--rows", "3000", "--scale", "0.001", "--min-count", "1", "--threads", "1"]


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["embpress", *words])  # what the records say was typed
    done = CliRunner().invoke(main, list(words))
    assert done.exit_code == 0, done.output
    return done.stdout


def told(folder, language):
    text = (folder / "report.md").read_text(encoding="utf-8").partition("## Answer")[2].partition("\n## ")[0]
    return re.search(rf"```{language}\n(.*)\n```", text)[1], re.search(r"`(compress_model\(.*\))`", text)[1]


def test_from_the_answer_to_files_that_serve(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "my runs"
    methods = ["--methods", "full,hash+int4,robe", "--ratio", "4", "--seeds", "2"]
    shown = run(monkeypatch, "compare", *SMALL, *methods, "--out", str(folder))
    command, line = told(folder, "sh")
    assert f"use it: {command}\n" in shown
    assert f"in a model of your own: {line}\n" in shown
    records = sorted(path.name for path in (folder / "records").glob("*.json"))
    assert len(records) == 6

    assert "joins 6 runs" in run(monkeypatch, *shlex.split(command)[1:])
    assert sorted(path.name for path in (folder / "records").glob("*.json")) == records  # the same run, not another
    export, _ = told(folder, "sh")
    assert export.startswith("embpress export ")
    assert "exported: served" in run(monkeypatch, *shlex.split(export)[1:])
    assert (tmp_path / "served" / "weights.safetensors").exists()

    model = torch.nn.ModuleDict({"user": torch.nn.EmbeddingBag(5000, 16), "item": torch.nn.EmbeddingBag(3000, 16)})
    done = eval(line, {"compress_model": compress_model, "model": model})
    assert done.attrs["ratio"] > 3.9


def test_a_report_as_one_page(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    run(monkeypatch, "compare", *SMALL, "--methods", "full,hash", "--ratio", "4", "--out", str(folder))
    assert not (folder / "report.html").exists()
    shown = run(monkeypatch, "report", str(folder), "--html")
    assert f"page: {folder / 'report.html'}\n" in shown
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert page.count("<svg") == 3
    for words in (["--html", "--format", "csv"], ["--html", "--across", "x.md"]):
        refused = CliRunner().invoke(main, ["report", str(folder), *words])
        assert refused.exit_code == 2
        assert "--html" in refused.stderr
