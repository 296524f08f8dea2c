"""Suites are found by being there; what a row says of cases that fail; the options that all suites share."""

import json
import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from embpress.cli.main import main
from embpress.compressors import InputError
from embpress.dlrm.bench import suite
from embpress.dlrm.bench.baselines import NotMeasured
from embpress.dlrm.bench.case import Case, Context, measured
from embpress.dlrm.bench.replay import EVENTS, GRAPH, Replay, timer_of
from embpress.dlrm.bench.suites import tt
from embpress.dlrm.bench.timing import Paired
from embpress.reports.bench import pages
from embpress.reports.bench.cells import section

CPU = torch.device("cpu")
SUITE = '''"""Sums of a vector against sums of its float64 copy.

More words.
"""

from dataclasses import dataclass

import torch

from embpress.dlrm.bench.case import Case
from embpress.dlrm.bench.suite import knob


@dataclass(frozen=True)
class Size:
    n: int = knob(100, "Elements.")
    skip: int = 7


FULL, QUICK = Size(), Size(n=3)


def cases(size, device):
    def run(context, row):
        x = torch.ones(context.size.n, device=context.device)
        row.setting = {"n": context.size.n}
        row.figures["sum"] = float(x.sum())
        context.fill(row, lambda i: x.sum(), lambda i: x.double().sum())

    return [Case("sum-all", "sums", "float64", run), Case("sum-again", "sums", "float64", run)]
'''
PAGE = """from embpress.reports.bench import page


class Page(page.Page):
    title = "Sums, as a page of their own says"
"""


@pytest.fixture
def added(tmp_path, monkeypatch):
    """A suite `sums` in a folder of its own."""
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "sums.py").write_text(SUITE)
    package = sys.modules["embpress.dlrm.bench.suites"]
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path / "suites")])
    yield tmp_path
    for name in ("embpress.dlrm.bench.suites.sums", "embpress.reports.bench.pages.sums"):
        sys.modules.pop(name, None)


def call(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def test_a_file_in_the_folder_is_a_suite(added):
    listed = call("bench").output
    assert " sums " in listed
    assert "Sums of a vector against sums of its float64 copy." in listed
    out = added / "out"
    done = call("bench", "sums", "--n", 50, "--seconds", 0.01, "--cases", "*-all", "--out", out)
    assert done.exit_code == 0, done.output
    assert "sum-all" in done.output
    record = json.loads((out / "bench-sums.json").read_text())
    (row,) = record["rows"]
    assert (row["setting"], row["figures"]) == ({"n": 50}, {"sum": 50.0})
    assert row["ratio"]["median"] > 0
    assert (record["suite"], record["size"]) == ("sums", {"n": 50, "skip": 7})
    page = (out / "bench-sums.md").read_text()  # the general one
    assert page.startswith("# Sums of a vector against sums of its float64 copy\n")
    assert "| sum-all | float64 |" in page
    quick = call("bench", "sums", "--quick", "--out", out)
    assert quick.exit_code == 0
    assert [row["setting"]["n"] for row in json.loads((out / "bench-sums.json").read_text())["rows"]] == [3, 3]


def test_a_page_of_the_suites_name_is_its_page(added, monkeypatch):
    (added / "pages").mkdir()
    (added / "pages" / "sums.py").write_text(PAGE)
    monkeypatch.setattr(pages, "__path__", [*pages.__path__, str(added / "pages")])
    assert call("bench", "sums", "--quick", "--out", added / "out").exit_code == 0
    assert (added / "out" / "bench-sums.md").read_text().startswith("# Sums, as a page of their own says\n")


def test_help_names_the_suites_and_imports_no_torch():
    code = (
        "import sys; from click.testing import CliRunner; from embpress.cli.main import main; "
        "print(CliRunner().invoke(main, ['bench', '--help']).output, 'torch' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for name in suite.names():
        assert f"\n  {name} " in shown
    assert shown.strip().endswith("False")


@pytest.mark.parametrize("name", suite.names())
def test_suites_say_what_they_must(name):
    module = suite.load(name)
    assert suite.about(name) == module.__doc__.splitlines()[0]
    assert type(module.FULL) is type(module.QUICK)
    for device in (CPU, torch.device("cuda")):
        names = [case.name for case in module.cases(module.FULL, device)]
        assert len(set(names)) == len(names) > 0


def test_patterns_choose_cases():
    cases = tt.cases(tt.FULL, CPU)
    names = [case.name for case in suite.chosen(cases, ["latency-*", "train-R?6"])]
    assert names == ["train-R16", "latency-B1", "latency-B128"]
    assert suite.chosen(cases, []) == cases
    with pytest.raises(InputError, match="'train-R23'; did you mean 'train-R32'"):
        suite.chosen(cases, ["train-R23"])


def test_what_a_build_lacks_or_fails_at_is_said_in_its_row():
    def lacks(context, row):
        raise NotMeasured("this build has no wings")

    def fails(context, row):
        raise RuntimeError("not enough memory\nand more")

    context = Context(tt.QUICK, Paired())
    rows = [vars(measured(Case(name, "op", "x", run), context)) for name, run in (("a", lacks), ("b", fails))]
    assert [row["status"] for row in rows] == ["skipped", "failed"]
    (table,) = section("title", rows, [("n", lambda row: "1")])
    assert [line[2] for line in table.cells] == ["skipped", "failed"]
    assert table.notes == ["a: skipped: this build has no wings.", "b: failed: RuntimeError: not enough memory."]


def test_a_table_says_how_a_row_was_timed_and_what_its_limit_is():
    row = vars(measured(Case("x", "op", "y", lambda context, row: None), Context(tt.QUICK, Paired())))
    row |= {"how": EVENTS, "reason": "not captured: the host waited", "roofline_s": 2e-5, "of_roofline": 0.1}
    row |= {"limit_s": 1e-4, "limit_on": "H200 SXM"}
    (table,) = section("title", [row], [("n", lambda row: "1")])
    assert dict(zip(table.headers, table.cells[0])) == {
        "case": "x", "against": "y", "roofline": "20.0 µs", "of roofline": "10 %", "n": "1",
    }  # fmt: skip
    assert table.notes == [
        "x should stay under 100 µs on an H200 SXM.",
        "x: by events, not captured: the host waited.",
    ]


def test_one_big_table_is_held_at_a_time():
    context, made = Context(tt.QUICK, Paired()), []
    for key in ("a", "a", "b", "a"):
        context.hold(key, lambda key=key: made.append(key) or nn.Identity())
    assert made == ["a", "b", "a"]


def test_so_many_repeats_or_so_many_seconds():
    calls = [lambda i: None]
    assert len(timer_of(CPU, repeats=9).measure(calls).times.repeats) == 9
    assert len(timer_of(CPU, quick=True).measure(calls).times.repeats) >= 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_on_a_gpu_calls_are_replayed_in_turn_or_timed_by_events():
    x = torch.ones(10, device="cuda")
    timer = timer_of(torch.device("cuda"), repeats=3)
    assert isinstance(timer, Replay)
    with timer.stream():
        timed = timer.measure([lambda i: x.add(i), lambda i: x.mul(i)])
        waiting = timer.measure([lambda i: x.sum().item()])
    assert (timed.how, len(timed.times.repeats), len(timed.times.repeats[0])) == (GRAPH, 3, 2)
    assert waiting.how == EVENTS
    assert waiting.reason.startswith("not captured: ")


def test_an_unknown_case_is_refused_with_the_nearest_name(tmp_path):
    done = call("bench", "tt", "--quick", "--cases", "zip-R32", "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "no case 'zip-R32'; did you mean 'zipf-R32'?" in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_unknown_suite_is_refused_with_the_nearest_name():
    done = call("bench", "robbe")
    assert done.exit_code == 2
    assert "no benchmark 'robbe'; did you mean 'robe'?" in done.stderr


@pytest.mark.parametrize(("option", "value"), [("--seconds", 0), ("--threads", 0), ("--repeats", 0)])
def test_bad_numbers_are_refused(option, value, tmp_path):
    done = call("bench", "tt", "--quick", option, value, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert option in done.stderr


def test_cases_are_listed_without_measuring(tmp_path):
    done = call("bench", "tt", "--cases", "train-*", "--list", "--out", tmp_path / "out")
    assert done.exit_code == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["train-R16", "train-R32", "train-R64"]
    assert not (tmp_path / "out").exists()
