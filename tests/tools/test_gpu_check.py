"""The check of a GPU: a part that fails hides no other, limits hold, and what cannot run says so."""

import importlib
import json
import os
import subprocess
import sys
import time

import pytest
import torch
from paths import ROOT, TOOLS

CHECK = TOOLS / "gpu_check"


@pytest.fixture(scope="module")
def runner():
    return _load("runner")


@pytest.fixture(scope="module")
def summary(runner):
    return _load("summary")


@pytest.fixture(scope="module")
def sanitizer(runner):
    return _load("sanitizer")


def _load(name):
    """A module of the check, which is a folder to run and not a package."""
    sys.path.insert(0, str(CHECK))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(CHECK))


def python(code):
    return [sys.executable, "-c", code]


def run(runner, tmp_path, *parts, total=60.0, environment=None):
    seen = []
    results = runner.run_parts(
        parts, tmp_path, tmp_path / "logs", lambda: {**os.environ, **(environment or {})}, total, seen.append
    )
    assert seen == results
    return results


def test_a_part_that_fails_hides_no_other(runner, summary, tmp_path):
    """And the summary names it."""
    results = run(
        runner,
        tmp_path,
        runner.Part("first", "what breaks", python("print('something'); raise ValueError('broken | here')"), 30),
        runner.Part(
            "second", "what works", python("import os; print('all well', os.environ['OWN'])"), 30, {"OWN": "5"}
        ),
        runner.Part("third", "what starts no process", ["no-such-program"], 30),
        runner.Part("fourth", "a GPU", python("raise SystemExit('never run')"), 30, skip="needs a GPU"),
    )
    assert [one.status for one in results] == ["failed", "passed", "failed", "skipped"]
    assert results[0].why == "exit status 1: ValueError: broken | here"
    assert results[1].why == "all well 5"
    assert "no-such-program" in results[2].why
    assert results[3].why == "needs a GPU"
    assert "something" in (tmp_path / "logs" / "first.log").read_text()
    bench = tmp_path / "bench"
    bench.mkdir()
    (bench / "bench-tt.md").write_text("# Benchmark\n\n## TT\n\n| a | b |\n")
    (bench / "bench-tt.json").write_text('{"rows": [1]}')
    text = summary.write(tmp_path, "cpu", {"torch": "2"}, results).read_text()
    assert "FAILED: first, third. torch 2." in text
    assert "| [first](logs/first.log) | failed | 0 | exit status 1: ValueError: broken \\| here | what breaks |" in text
    assert "| fourth | skipped | 0 | needs a GPU | a GPU |" in text
    assert "\n## Benchmark\n\n### TT\n" in text
    record = json.loads((tmp_path / "gpu-check.json").read_text())
    assert [part["status"] for part in record["parts"]] == [one.status for one in results]
    assert record["bench"] == [{"rows": [1]}]


def test_a_part_is_stopped_at_its_limit_with_all_that_it_started(runner, tmp_path):
    mark = tmp_path / "mark"
    child = f"import time, pathlib; time.sleep(4); pathlib.Path({str(mark)!r}).touch()"
    code = (
        f"import subprocess, sys, time; print('started', flush=True); subprocess.run([sys.executable, '-c', {child!r}])"
    )
    began = time.monotonic()
    slow, after = run(
        runner,
        tmp_path,
        runner.Part("slow", "", python(code), 3.1),
        runner.Part("after", "", python("print('ran')"), 30),
    )
    assert time.monotonic() - began < 30
    assert (slow.status, slow.why) == ("failed", "stopped after 3 s: started")
    assert after.status == "passed"
    time.sleep(2)
    assert not mark.exists()


def test_parts_run_side_by_side_but_for_those_that_run_alone(runner, tmp_path):
    """Each writes when it starts and ends."""
    code = "import sys, time; print('{0}', time.time()); time.sleep(1.5); print('{0}', time.time())"
    parts = [runner.Part(name, "", python(code.format(name)), 30, alone=name == "c") for name in "abcde"]
    ended = []
    results = runner.run_parts(
        parts, tmp_path, tmp_path / "logs", lambda: dict(os.environ), 60.0, lambda one: ended.append(one.name), jobs=2
    )
    assert [one.name for one in results] == list("abcde")
    assert sorted(ended) == list("abcde")
    spans = {}
    for one in results:
        lines = (tmp_path / "logs" / one.log).read_text().splitlines()[1:]
        spans[one.name] = tuple(float(line.split()[1]) for line in lines)
    overlap = {x + y for x in spans for y in spans if x < y and spans[x][0] < spans[y][1] and spans[y][0] < spans[x][1]}
    assert overlap == {"ab", "de"}


def test_no_part_starts_after_the_time_for_all(runner, tmp_path):
    (late,) = run(runner, tmp_path, runner.Part("late", "", python("print('ran')"), 30), total=1.0)
    assert (late.status, late.why) == ("failed", "not run: the time for the whole check is over")


def test_the_outcome_is_read_from_what_a_command_says(runner, tmp_path):
    pytest_file = tmp_path / "test_x.py"
    pytest_file.write_text(
        "import pytest\n@pytest.mark.skip(reason='no GPU')\ndef test_skipped(): pass\ndef test_wrong(): assert 1 == 2\n"
    )
    test = [sys.executable, "-m", "pytest", "-q", "-ra", "-p", "no:cacheprovider", str(pytest_file)]
    skipped, wrong, unable = run(
        runner,
        tmp_path,
        runner.Part("skipped", "", [*test, "-k", "skipped"], 60),
        runner.Part("wrong", "", test, 60),
        runner.Part("unable", "", python("print('no such device'); raise SystemExit(77)"), 60),
    )
    assert skipped.status == "skipped"
    assert "1 skipped" in skipped.why
    assert wrong.status == "failed"
    assert wrong.why.startswith("test_wrong: 1 failed")
    assert (unable.status, unable.why) == ("skipped", "no such device")


REPORT = """\
========= COMPUTE-SANITIZER
========= Invalid __global__ write of size 4 bytes
=========     at void embpress::cuda::tt_pool<float>(float*)+0x1f0
=========     by thread (0,0,0) in block (0,0,0)
=========     Host Frame:  [0x1234] in libcuda.so.1
========= Uninitialized __global__ memory read of size 4 bytes
=========     at void at::native::vectorized_elementwise_kernel<4>(int)+0x10
=========     Host Frame:  at::native::add [0x88] in libtorch_cuda.so
=========
========= Error: Race reported between Write access and Read access
=========     at void cub::DeviceRadixSortKernel<int>()+0x10
=========     Host Frame:  [0x88] in /x/build/gpu-check/library/_C.abi3.so
47 calls on cuda
========= ERROR SUMMARY: 3 errors
"""


def test_reports_of_compute_sanitizer_count_where_they_are_ours(sanitizer):
    ours, others = sanitizer.errors(REPORT)
    assert [block.splitlines()[0] for block in ours] == [
        "========= Invalid __global__ write of size 4 bytes",
        "========= Error: Race reported between Write access and Read access",
    ]
    assert others == 1


@pytest.mark.parametrize(
    ("said", "status", "last"),
    [
        (REPORT, 1, "memcheck: 2 reports about our kernels, 1 about others"),
        (
            "========= COMPUTE-SANITIZER\n47 calls on cuda\n========= ERROR SUMMARY: 0 errors\n",
            0,
            "memcheck: 0 reports",
        ),
        ("========= COMPUTE-SANITIZER\nTraceback\n", 1, "did not finish"),
        ("========= Error: Device not supported\n", 77, "does not support the device"),
    ],
)
def test_a_tool_passes_where_it_finished_and_reports_nothing_of_ours(sanitizer, said, status, last, tmp_path, capfd):
    program = tmp_path / "compute-sanitizer"
    program.write_text(f"#!{sys.executable}\nprint({said!r}, end='')\n")
    program.chmod(0o755)
    assert sanitizer.main(str(program), "memcheck") == status
    assert last in capfd.readouterr().out.strip().splitlines()[-1]


def command(*arguments, **environment):
    return subprocess.run(
        [sys.executable, str(CHECK), *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
        timeout=300,
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_sentence(tmp_path):
    done = command("--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "sees no GPU here" in done.stderr
    assert not (tmp_path / "out").exists()


def test_parts_are_tried_without_a_gpu(tmp_path):
    """From the checkout, whatever is installed; what needs a GPU is skipped and says so."""
    out = tmp_path / "out"
    done = command("--device", "cpu", "--parts", "environment,graphs,memcheck", "--out", str(out), OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((out / "gpu-check.json").read_text())
    assert [(part["name"], part["status"]) for part in record["parts"]] == [
        ("environment", "passed"),
        ("graphs", "skipped"),
        ("memcheck", "skipped"),
    ]
    assert "tt_embedding_bag" in (out / "logs" / "environment.log").read_text()


def test_a_part_that_is_not_there_is_a_mistake():
    done = command("--device", "cpu", "--parts", "kernel")
    assert done.returncode == 2
    assert "no part kernel; there are environment, build, bench-tt, bench-robe" in done.stderr
