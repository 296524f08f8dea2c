"""The page about ranks, on made records, against numbers worked out by hand."""

import math
import re
import warnings
from dataclasses import replace

import pytest
from click.testing import CliRunner

from embpress.cli.main import main
from embpress.dlrm.runs.store import save
from embpress.reports import write_report
from embpress.reports.pages.ranks.data import against_size, rank_lines, without_cache
from embpress.reports.pages.ranks.page import lacks, make
from embpress.reports.pages.ranks.plot import auc_over_rank

PLOT = "auc_over_rank.png"
# by seed; differences of 0.010 ± 0.001 from 4 to 16, none beyond chance from 16 to 64
AUC = {4: (0.700, 0.701, 0.702), 16: (0.710, 0.712, 0.711), 64: (0.711, 0.710, 0.712)}
BYTES = {4: 1000, 16: 4000, 64: 16000}


@pytest.fixture
def spread(run):
    """Runs of one spec, one a seed."""

    def make(spec, aucs, **changes):
        return [run(spec, seed, auc=auc, **changes) for seed, auc in enumerate(aucs)]

    return make


@pytest.fixture
def folder_runs(spread):
    found = spread("full", (0.720, 0.721, 0.722))
    for rank, aucs in AUC.items():
        found += spread(f"tt:rank={rank}", aucs, serving_bytes=BYTES[rank])
    return found


def page_of(folder, runs):
    return make(folder / "plots", runs)


def sentence(text, name):
    (found,) = (line for line in text.split("\n") if line.startswith(f"- **{name}.**"))
    return found


def cells(text):
    lines = [line for line in text.split("\n") if line.startswith("| ")]
    split = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert len({len(line) for line in split}) == 1
    return [dict(zip(split[0], line)) for line in split[2:]]


def test_a_line_over_the_ranks(folder_runs, tmp_path):
    write_report(tmp_path, folder_runs, ["ranks"])
    text = (tmp_path / "ranks.md").read_text()
    assert (tmp_path / "plots" / PLOT).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert f"](plots/{PLOT})" in text
    assert "](ranks.md)" in (tmp_path / "report.md").read_text()
    told = sentence(text, "Rank")
    # 64 minus 4 by seed: 0.011, 0.009, 0.010
    assert "from 0.7010 at rank 4 to 0.7110 at 64 (+0.0100 ± 0.0010, beyond the spread of the 3 seeds)" in told
    # 16 minus 4: 0.010, 0.011, 0.009; 64 minus 16: 0.001, -0.002, 0.001
    assert "the only single step that gains more than that spread: 4 to 16" in told
    assert "at every step" not in told
    assert "No run had one" in sentence(text, "Cache")
    assert "No rank was run with more than one" in sentence(text, "Initialisation")
    first, *rest = cells(text)
    assert first["Rank"] == "full tables"
    assert [row["Rank"] for row in rest] == ["4", "16", "64"]
    assert rest[0]["Test AUC"] == "0.7010 ± 0.0010"
    assert rest[0]["Δ to full"] == "**−0.0200 ± 0.0000**"
    assert rest[0]["Size"] == "1.0 kB"
    assert "Cache hit rate" not in first


def test_only_shared_seeds_are_paired(folder_runs, spread, tmp_path):
    runs = [run for run in folder_runs if not run.is_full or run.seed != 2]
    row = cells(page_of(tmp_path, runs))[1]
    assert row["Δ to full"] == "**−0.0200 ± 0.0000**"
    assert row["Seeds"] == "3"
    alone = spread("full", (0.720,))
    row = cells(page_of(tmp_path, [*alone, *(run for run in runs if not run.is_full)]))[1]
    assert row["Δ to full"] == "−0.0200"


def test_cache_at_equal_rank_and_at_equal_bytes(folder_runs, spread, tmp_path):
    cached = spread("tt:rank=4:cache_fraction=0.01", (0.708, 0.709, 0.710), serving_bytes=2000)
    for run, rate in zip(cached, (0.4, 0.5, 0.6)):
        run.metrics["cache_hit_rate"] = rate
    found = rank_lines([*folder_runs, *cached])
    bare, line = found.lines
    assert (bare.cache, line.cache, line.label) == ("", "1 %", "sampled-gaussian, cache 1 %")
    assert without_cache(line, found.lines) is bare
    # 2000 bytes are half way, by logarithm, between 1000 and 4000: 0.705, 0.7065, 0.7065 without a cache
    gap = against_size(line.points[0], bare)
    assert gap.mean == pytest.approx((0.003 + 0.0025 + 0.0035) / 3)
    assert gap.sd == pytest.approx(0.0005)
    assert gap.distinguishable
    text = page_of(tmp_path, [*folder_runs, *cached])
    told = sentence(text, "Cache")
    assert "at equal rank AUC changes by +0.0080 ± 0.0000 (rank 4, beyond the spread of the 3 seeds)" in told
    assert "at equal bytes AUC changes by +0.0030 ± 0.0005 (rank 4, beyond the spread of the 3 seeds)" in told
    assert [row["Cache hit rate"] for row in cells(text)] == ["–", "–", "–", "–", "50.0 %"]


def test_no_size_to_compare_a_cache_with(folder_runs, spread, tmp_path):
    cached = spread("tt:rank=64:cache_rows=1000", (0.70, 0.70, 0.70), serving_bytes=17000)
    told = sentence(page_of(tmp_path, [*folder_runs, *cached]), "Cache")
    assert "cache 1,000 rows" in told
    assert "at equal bytes nothing can be compared" in told
    slow = spread("tt:rank=64:cache_rows=1:refresh=50", (0.70, 0.70, 0.70), serving_bytes=17000)
    told = sentence(page_of(tmp_path, [*folder_runs, *slow]), "Cache")
    assert "With sampled-gaussian, cache 1 row, refresh=50 instead of none, at equal rank AUC changes" in told
    other = spread("tt:rank=64:cache_rows=1000:evict=write-back:init=uniform", (0.70, 0.70, 0.70))
    told = sentence(page_of(tmp_path, [*folder_runs, *other]), "Cache")
    assert "uniform, cache 1,000 rows, write-back was not run without its cache" in told


def test_gains_and_losses_of_a_cache_are_told_apart(folder_runs, spread, tmp_path):
    changes = {4: (0.004, 0.005, 0.006), 16: (0.001, -0.002, 0.001), 64: (-0.004, -0.005, -0.006)}
    runs = list(folder_runs)
    for rank, change in changes.items():
        aucs = [auc + more for auc, more in zip(AUC[rank], change)]
        runs += spread(f"tt:rank={rank}:cache_rows=9", aucs, serving_bytes=BYTES[rank] + 1)
    told = sentence(page_of(tmp_path, runs), "Cache").split("; at equal bytes")[0]
    assert "by −0.0050 to +0.0050 (ranks 4, 16 and 64)" in told
    assert (
        "a gain beyond the spread of the seeds at rank 4 and a loss beyond the spread of the seeds at rank 64" in told
    )


def test_best_init(folder_runs, spread, tmp_path):
    runs = [*folder_runs, *spread("tt:rank=16:init=gaussian", (0.709, 0.712, 0.7105))]  # 0.0005 ± 0.0005 behind
    told = sentence(page_of(tmp_path, runs), "Initialisation")
    assert "At rank 16 sampled-gaussian is best of 2 (0.7110), +0.0005 ± 0.0005 ahead of gaussian" in told
    assert "within the spread of the seeds" in told
    runs += spread("tt:rank=16:init=uniform", (0.700, 0.702, 0.701))
    told = sentence(page_of(tmp_path, runs), "Initialisation")
    assert "within the spread of the seeds gaussian cannot be told from it" in told
    runs = [*folder_runs, *spread("tt:rank=16:init=uniform", (0.700, 0.702, 0.701))]
    assert "beyond the spread of the seeds." in sentence(page_of(tmp_path, runs), "Initialisation")


def test_best_init_at_many_ranks(spread, tmp_path):
    runs = []
    for rank in (2, 3, 5, 7):
        runs += spread(f"tt:rank={rank}", (0.71, 0.72, 0.73))
        runs += spread(f"tt:rank={rank}:init=uniform", (0.70, 0.71, 0.72) if rank < 7 else (0.70, 0.75, 0.74))
    told = sentence(page_of(tmp_path, runs), "Initialisation")
    assert "sampled-gaussian at ranks 2, 3 and 5; uniform at rank 7" in told
    assert "beyond the spread of the seeds at ranks 2, 3 and 5." in told


def test_one_seed_claims_nothing(run, tmp_path):
    runs = [run(f"tt:rank={rank}", auc=0.7 + rank / 1000, serving_bytes=100 * rank) for rank in (4, 8)]
    runs += [run("tt:rank=8:init=uniform", auc=0.71), run("tt:rank=8:cache_rows=5", auc=0.72, serving_bytes=700)]
    text = page_of(tmp_path, runs)
    for name in ("Rank", "Cache", "Initialisation"):
        assert "one seed, so chance is not ruled out" in sentence(text, name)
    assert "±" not in "".join(sentence(text, name) for name in ("Rank", "Cache", "Initialisation"))
    assert "Full tables were not run" in text
    assert "Δ to full" not in text


def test_the_same_table_written_in_two_ways_is_one_row(run):
    written = [
        "tt:rank=32",
        "tt",
        "tt:init=sampled-gaussian:rank=32:warmup=7:evict=write-back",
        "tt:rank=32:num_cores=3",
    ]
    found = rank_lines(run(spec, seed) for seed, spec in enumerate(written))
    (line,) = found.lines
    assert (line.label, [(point.rank, point.row.n) for point in line.points]) == ("sampled-gaussian", [(32, 4)])
    other = rank_lines([run("tt:rank=32"), run("tt:rank=32:num_cores=4:column_factors=2x2x2x2")])
    assert [line.label for line in other.lines] == [
        "sampled-gaussian",
        "sampled-gaussian, column_factors=2x2x2x2 num_cores=4",
    ]


def test_what_is_left_out_is_said(folder_runs, run, lost, tmp_path):
    sized = run("tt", asked={"ratio": 16.0, "budget": None})
    runs = [
        *folder_runs,
        run("robe:z=16"),
        run("tt:rank=4x8"),
        sized,
        lost("tt:rank=128"),
        run("tt:rank=2", metrics={}),
    ]
    runs.append(run("名前|`x`:δ=1"))
    text = page_of(tmp_path, runs)
    (said,) = (line for line in text.split("\n") if line.startswith("Not on this page: "))
    assert "robe:z=16, 名前\\|\\`x\\`:δ=1 (no tensor train)" in said
    assert "tt:rank=4x8 (a rank for each pair of cores)" in said
    assert "tt @16× (ranks that a size was turned into, one for each table)" in said
    assert "(failed)" in said
    assert "(no AUC)" in said
    for table in sized.tables:  # where the size gave one rank to all tables, that is the rank
        table.knobs["rank"] = 6
    assert rank_lines([sized]).ranks == [6]


def test_names_in_any_script_leave_no_trace(folder_runs, run, tmp_path, capfd):
    runs = [
        replace(
            one,
            data=replace(one.data, name="クリック $x_1$ *страна*"),
            backend="βackend$1$" if one.seed else "native",
        )
        for one in [*folder_runs, run("名前|`x`:δ=$1_2$")]
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = page_of(tmp_path, runs)
    assert "\\[" not in text
    assert all(row["Rank"] for row in cells(text))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("ranks", [[1], [30, 31, 32], [1, 4096]])
def test_the_plot_names_the_ranks_that_were_run(run, ranks):
    made = auc_over_rank(rank_lines([run(f"tt:rank={rank}", serving_bytes=10**6) for rank in ranks]))
    made.canvas.draw()
    left, right = made.axes
    shown = [text.get_text() for text in left.get_xticklabels()]
    assert shown[0] == str(ranks[0])
    assert len(shown) == (1 if ranks[0] == 30 else len(shown)) <= 3
    low, high = left.get_xlim()
    assert low < min(ranks) <= max(ranks) < high
    assert len(right.get_xticks()) >= 1
    assert all(math.isfinite(x) for x in right.get_xlim())


def test_a_folder_without_ranks_is_refused_by_name(run, runs, tmp_path):
    others = [one for one in runs if one.name != "tt"]
    for one in others:
        save(tmp_path, one)
    done = CliRunner().invoke(main, ["report", str(tmp_path), "--page", "ranks"])
    assert done.exit_code == 2
    assert "No run of this folder has tensor-train tables" in done.stderr
    assert len(done.stderr.strip().split("\n")) == 1
    assert not (tmp_path / "ranks.md").exists()
    # a page of before, beside a report that is made anew, says the same
    (tmp_path / "ranks.md").write_text("old")
    write_report(tmp_path, others)
    text = (tmp_path / "ranks.md").read_text()
    assert "No run of this folder has tensor-train tables" in text
    assert not (tmp_path / "plots" / PLOT).exists()
    assert lacks([run("tt:rank=4")]) == ""
