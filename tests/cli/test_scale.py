"""`embpress scale` by command."""

import json

import pytest
from click.testing import CliRunner
from paths import ROOT

from embpress.cli.main import main
from embpress.dlrm.scale.case import cases

SMALL = ["scale", "--rows", "5000,300,40", "--dim", "16", "--batch", "512", "--ratio", "8"]


def run(*arguments):
    return CliRunner().invoke(main, list(arguments))


def test_table_json_and_page(tmp_path):
    shown = run(*SMALL, "--methods", "robe,tt", "--out", str(tmp_path / "page.md"))
    assert shown.exit_code == 0, shown.output
    lines = shown.output.splitlines()
    assert max(map(len, lines)) <= 100
    assert any(line.startswith("full: tables of 341.8 kB, sharded over the devices; needs 1 device") for line in lines)
    assert "robe: tables of 42.7 kB, copied to each device" in shown.output
    page = (tmp_path / "page.md").read_text()
    assert "| devices | held |" in page
    assert "sgd" in page
    found = json.loads(run(*SMALL, "--methods", "robe", "--json").output)
    assert [one["name"] for one in found] == ["full", "robe"]
    assert found[0]["serving_bytes"] == 4 * 16 * 5340
    on_eight = found[1]["steps"][0]
    assert on_eight["devices"] == 8
    assert on_eight["at_least_s"] == max(on_eight[f"{name}_s"] for name in ("memory", "network", "flops"))
    assert on_eight["limit"] in ("memory", "network", "FLOPs")


def test_all_of_inference_and_more_options():
    shown = run(*SMALL, "--inference", "--machines", "2x1GB:1TB/s:1TFLOP/s", "--network", "1Gb/s:5us", "--lookups", "3")
    assert "One step of inference of 512 samples" in shown.output
    assert "3 ids a table" in shown.output
    assert "tables of" in run("scale", "--rows", "9k", "--tables-number", "4", "--tf32").output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["scale"], "say how large the tables are"),
        ([*SMALL, "--machines", "8xB300"], "there is no device 'B300'"),
        ([*SMALL, "--machines", "8xV100", "--tf32"], "has no TF32 rate"),
        ([*SMALL, "--methods", "robee"], "did you mean 'robe'"),
        ([*SMALL, "--methods", "full"], "which stand there anyway"),
        ([*SMALL, "--methods", ","], "names no method"),
        ([*SMALL, "--budget", "5M"], "--ratio or --budget, not both"),
        ([*SMALL, "--memory-share", "0"], "a share above 0"),
        ([*SMALL, "--bottom", "512,x"], "--bottom"),
        ([*SMALL, "--optimizer", "sdg"], "no optimizer 'sdg'; did you mean 'sgd'"),
        (["scale", "--case", "sharing"], "there is no case 'sharing'"),
        (["scale", "--case", cases()[0], "--ratio", "8"], "a case says everything itself; leave out --ratio"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else None,
)
def test_mistakes_are_one_sentence(arguments, says):
    refused = run(*arguments)
    assert refused.exit_code == 2, refused.output
    assert says in refused.output
    assert "Traceback" not in refused.output


@pytest.mark.parametrize("name", cases())
def test_published_pages_are_what_their_command_gives(tmp_path, name):
    published = ROOT / "reports" / "published" / "scale" / f"{name}.md"
    made = run("scale", "--case", name, "--out", str(tmp_path / "page.md"))
    assert made.exit_code == 0, made.output
    without_command = lambda text: text.split("```", 2)[2]  # noqa: E731
    assert without_command((tmp_path / "page.md").read_text()) == without_command(published.read_text())
    assert f"embpress scale --case {name} --out" in published.read_text()
