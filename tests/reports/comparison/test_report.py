import errno
import re
import warnings
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from embpress.compressors import InputError
from embpress.reports import write_report
from embpress.reports.text import code, escape

SECTIONS = [
    "Answer",
    "Results",
    "Failures",
    "Plots",
    "Which differences are more than chance",
    "What was compared",
    "What the columns mean",
    "Size of each table",
    "Lookups on row 0",
    "Data and protocol",
    "Environment",
    "Repeat it",
]
PLOTS = ["auc_vs_size.png", "learning_curves.png", "lookup_latency.png"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("report")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def size_of(png: bytes) -> tuple[int, int]:
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert png[-8:-4] == b"IEND"
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


def cells(line: str) -> list[str]:
    return re.split(r"(?<!\\)\|", line)


def test_report_is_complete_and_the_same_again_in_any_order(runs, folder, tmp_path):
    path = write_report(folder, runs)
    text = path.read_text(encoding="utf-8")
    assert path == folder / "report.md"
    assert re.findall(r"^## (.*)$", text, re.M) == SECTIONS
    found = files(folder)
    assert sorted(found) == sorted(["report.md", *(f"plots/{name}" for name in PLOTS)])
    for name in PLOTS:
        width, height = size_of(found[f"plots/{name}"])
        assert 800 <= width <= 1000
        assert 300 <= height <= 1000
        assert f"](plots/{name})" in text
    assert "Only a method that saves by width" in text
    assert "RuntimeError: loss is nan \\| stopped" in text
    assert "cannot reach 16×, smallest 4×" in text
    assert "| *10 smaller tables* |" in text
    assert "The other 30 features" in text
    assert runs[0].command in text
    write_report(tmp_path, list(reversed(runs)))
    assert files(tmp_path) == found


def test_every_table_row_has_as_many_cells_as_its_header(runs, run, tmp_path):
    odd = run("名前|`x`*_$1$", 0, tables=[])
    text = write_report(tmp_path, [*runs, odd]).read_text(encoding="utf-8")
    blocks = [block.split("\n") for block in text.split("\n\n") if block.startswith("| ")]
    assert len(blocks) >= 4
    for block in blocks:
        assert len({len(cells(line)) for line in block}) == 1
    assert any(line.startswith("| 名前\\|\\`x\\`\\*\\_\\$1\\$ |") for line in text.split("\n"))


def test_without_results_only_words_are_left(lost, run, tmp_path):
    write_report(tmp_path, [run("tt"), lost("hash")])
    text = write_report(tmp_path, [lost("tt"), lost("hash", 0, "cannot reach")]).read_text(encoding="utf-8")
    assert "## Failures" in text
    assert "## Plots" not in text
    assert list((tmp_path / "plots").iterdir()) == []  # those of the earlier report are gone


def test_a_gpu_shows_with_its_memory_and_versions(run, tmp_path):
    gpu = {"gpu": "NVIDIA H100", "compute_capability": "9.0", "gpu_memory_bytes": 85_000_000_000, "cuda": "13.0"}
    runs = [run("full"), run("tt")]
    before = write_report(tmp_path, runs).read_text(encoding="utf-8")
    for made in runs:
        made.environment.update(gpu, gpu_driver=None)
        made.metrics["peak_device_bytes"] = 2_500_000_000
        made.training["amp"] = "bfloat16"
    text = write_report(tmp_path, runs).read_text(encoding="utf-8")
    for shown in (
        "Peak on the GPU",
        "2.5 GB",
        "NVIDIA H100",
        "85.0 GB",
        "capability:** 9.0",
        "CUDA:** 13.0",
        "amp bfloat16",
    ):
        assert shown in text
        assert shown not in before
    assert "None" not in text


def test_what_is_said_of_one_seed_and_of_threads_that_waited(run, run_set, tmp_path):
    once = write_report(tmp_path, [run("full"), run("tt")]).read_text(encoding="utf-8")
    assert "± standard deviation over" not in once
    assert "One seed was run, so there is no spread" in once
    assert "threads waited" not in once
    late = [run("full"), run("tt", train_seconds=900.0)]
    text = write_report(tmp_path, late).read_text(encoding="utf-8")
    assert "threads waited for each other on a busy machine, and their times are too long: tt." in text
    assert "± standard deviation over" in write_report(tmp_path, run_set(seeds=2)).read_text(encoding="utf-8")


def test_no_failures_no_section(run, tmp_path):
    assert "## Failures" not in write_report(tmp_path, [run("full"), run("tt")]).read_text(encoding="utf-8")


@pytest.mark.parametrize("metrics", [{}, {"auc": 0.7}])
def test_a_run_that_knows_little_makes_a_report(metrics, run, tmp_path):
    made = run("x", metrics=metrics, tables=[], learning_curve=[], environment={})
    assert write_report(tmp_path, [made]).read_text(encoding="utf-8").startswith("# ")


def test_a_full_disk_leaves_the_report_of_before_and_nothing_half_written(run, tmp_path, monkeypatch):
    def full(figure, file, **_):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    write_report(tmp_path, [run("full")])
    (tmp_path / "plots" / ".writing-1x").write_text("left by a killed process")
    (tmp_path / ".writing-1x").write_text("left by a killed process")
    found = files(tmp_path)
    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(InputError, match=r"cannot write .*auc_vs_size.png: No space left on device"):
        write_report(tmp_path, [run("full"), run("tt")])
    assert files(tmp_path) == {name: text for name, text in found.items() if ".writing" not in name}


def test_of_no_runs_there_is_no_report(tmp_path):
    with pytest.raises(InputError, match="at least one run"):
        write_report(tmp_path, [])


def test_drawing_leaves_no_trace(run, tmp_path, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_report(tmp_path, [run("名前 $x_1$", s, auc=0.7, device="cuda") for s in (0, 1)])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a|b", r"a\|b"),
        ("snake_case C_1", "snake_case C_1"),
        ("_x_ *y*", r"\_x\_ \*y\*"),
        ("[13, 64]", "[13, 64]"),
        ("[a](b)", r"[a\](b)"),
        ("<b>\n x", r"\<b> x"),
        ("Größe ×16 名", "Größe ×16 名"),
        ("a\x00b\udcff", "a\ufffdb\ufffd"),
    ],
)
def test_escape(text, escaped):
    assert escape(text) == escaped


def test_code_cannot_be_closed_from_inside():
    assert code("a\n```\nb").startswith("````sh\n")


def served(run, method, costs, **changes):
    """Seeds of a method whose steps of serving cost so much each."""
    steps, auc = [("", 0.0), *costs], 0.75
    points = []
    for modifiers, cost in steps:
        auc -= cost
        points.append({"modifiers": modifiers, "auc": auc, "log_loss": 0.5 - auc / 10})
    metrics = {"auc": auc, "auc_trained": 0.75, "log_loss_trained": 0.425}
    return [run(method, seed, served=points, **metrics, **changes) for seed in (0, 1)]


def column(text, title):
    lines = [line.strip("| ").split(" | ") for line in text.partition("## Results")[2].split("\n\n")[1].splitlines()]
    return {line[0]: line[lines[0].index(title)] for line in lines[2:]}


def test_what_serving_costs_has_a_column_where_something_costs(run, tmp_path):
    runs = [run("full", 0), run("full", 1), *served(run, "tt+bf16", [("bf16", 0.0010)])]
    text = write_report(tmp_path, runs).read_text(encoding="utf-8")
    assert column(text, "Δ served") == {"full": "–", "tt+bf16": "**−0.0010 ± 0.0000**"}
    assert "**Δ served:** Test AUC minus" in text
    assert "## From training to serving" not in text
    assert "Δ served" not in write_report(tmp_path, runs[:2]).read_text(encoding="utf-8")


def test_several_modifiers_of_serving_are_told_step_by_step(run, tmp_path):
    runs = served(run, "tt+int8+pq", [("int8", 0.0010), ("pq:k=2", 0.0200)])
    text = write_report(tmp_path, [*runs, *served(run, "qr+bf16", [("bf16", 0.0)])]).read_text(encoding="utf-8")
    section = text.partition("## From training to serving")[2].partition("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in section.strip().splitlines()[2:5]]
    assert lines == [
        ["tt+int8+pq", "as trained", "0.7500", "0.4250", "–"],
        ["tt+int8+pq", "+int8", "0.7490", "0.4251", "−0.0010"],
        ["tt+int8+pq", "+pq:k=2", "0.7290", "0.4271", "−0.0200"],
    ]
    assert "qr+bf16" not in section


def test_ratios_are_said_against_int8_as_well(run, tmp_path):
    full, small = run("full", tables=[]), run("tt", ratio=16.0)
    text = write_report(tmp_path, [full, small]).read_text(encoding="utf-8")
    elements = sum(table.num_embeddings * 16 for table in small.tables)
    rows, columns = sum(table.num_embeddings for table in small.tables), 16 * len(small.tables)
    by_column, by_row = (4 * elements / (elements + ranges) for ranges in (4 * columns, 8 * rows))
    assert f"int8 are {by_column:.1f}× by themselves" in text
    assert f"and {by_row:.1f}× with 4 bytes each for every row" in text
    assert f"16.0× is {16 / by_column:.1f}× and {16 / by_row:.1f}×" in text
    assert "int8" not in write_report(tmp_path, [full]).read_text(encoding="utf-8")


def test_plain_baselines_are_named(run, tmp_path):
    text = write_report(tmp_path, [run("full"), run("narrow:k=1"), run("tt")]).read_text(encoding="utf-8")
    assert "without a compression method: full, narrow:k=1." in text


def test_the_numbering_of_ids_is_said_to_be_a_choice(run, tmp_path):
    made = run("full")
    text = write_report(tmp_path, [made]).read_text()
    assert "falling frequency in the rows trained on, which is a choice of ours" in text
    made.data.about["number_ids"] = "random"
    text = write_report(tmp_path, [made]).read_text()
    assert "numbered at random" in text
    assert "a choice of ours" not in text
