"""A run folder with labels and predictions: what the report says of how sure its differences are."""

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import rankdata

from embpress.dlrm.runs.store import labels_path, read_all, save, save_labels
from embpress.reports import headline, summary_cells, write_report
from embpress.reports.summary import summary
from embpress.reports.uncertainty.judge import judge

ROWS = 1000
LABELS = (np.arange(ROWS) % 4 == 0).astype(np.int8)
GAINS = {"full": 1.30, "tt": 1.29, "robe": 1.28, "qr": 1.10, "hash": 0.60}
ONE_ROW = re.compile(r"^\| (\S+) \|", re.M)


def auc_of(scores, labels=LABELS):
    ranks, ones = rankdata(scores), int(labels.sum())
    return (ranks[labels == 1].sum() - ones * (ones + 1) / 2) / (ones * (len(labels) - ones))


def predictions(method, seed, rows=ROWS, labels=LABELS):
    base = np.random.default_rng(0).normal(size=rows)
    own = np.random.default_rng([*method.encode(), seed]).normal(size=rows)
    of_method = np.random.default_rng(list(method.encode())).normal(size=rows)
    return (1 / (1 + np.exp(-(base + 0.1 * own + 0.2 * of_method + GAINS[method] * labels)))).astype(np.float32)


@pytest.fixture
def made(run, tmp_path):
    """Makes a run folder: methods with seeds, their predictions beside the records, and labels."""

    def make(seeds=(0, 1, 2), methods=tuple(GAINS), folder="runs", labels=LABELS, of=predictions, **changes):
        where = tmp_path / folder
        for method in methods:
            for seed in seeds[method] if isinstance(seeds, dict) else seeds:
                scores = of(method, seed)
                save(where, run(method, seed, auc=auc_of(scores), **changes), scores)
        if labels is not None:
            save_labels(where, "9f2c", labels)
        return where

    return make


def judged(folder):
    rows = summary(read_all(folder))
    return {row.label: row for row in rows}, judge(rows, [folder])


def report(folder):
    return write_report(folder, read_all(folder)).read_text(encoding="utf-8")


def section(text):
    return text.partition("## Which differences are more than chance\n")[2].partition("\n## ")[0]


def test_several_seeds_and_labels_give_an_interval_over_both_and_sets(made):
    folder = made()
    text = report(folder)
    results = text.partition("## Results")[2].partition("\n## ")[0]
    assert "| Δ to full | 95 % over seeds and rows | Set |" in results
    assert "is the interval of Δ to full that holds for other seeds and other test rows" in results
    assert "share a letter in *Set* cannot be told apart, over seeds and rows, corrected for 6 comparisons" in results
    about = section(text)
    assert (
        "| Δ to full | 95 % over seeds | 95 % over seeds and rows | p, corrected | Set | Place | Not told from |"
        in about
    )
    assert "than these 1,000" in about
    lines = {line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ") for line in about.strip().split("\n")[2:6]}
    assert [lines[method][6:] for method in ("tt", "robe", "qr", "hash")] == [
        ["a", "1–2 of 4", "robe"],
        ["a", "1–2 of 4", "tt"],
        ["b", "3 of 4", "–"],
        ["c", "4 of 4", "–"],
    ]
    rows, sure = judged(folder)
    for label in lines:
        found = sure.to_full(rows[label])
        assert found.half_width > found.seeds_alone
        assert found.mean == pytest.approx(rows[label].auc_to_full.mean)  # Δ to full is what it was
        assert found.seeds_alone == pytest.approx(rows[label].auc_to_full.half_width)
    first, second = headline(read_all(folder), sure).split(". ")[:2]
    assert "within the spread of 3 paired seeds and the test rows" in first
    assert "The lead of robe over tt is within the spread of the seeds and test rows (corrected for 6" in second
    assert headline(read_all(folder), folder) == headline(read_all(folder), sure)
    assert headline(read_all(folder), sure) in text.replace("\\", "")
    headers, cells, notes = summary_cells(read_all(folder), 120, sure)
    assert [line[headers.index("set")] for line in cells] == ["", "a", "a", "b", "c"]
    assert any(note.startswith("set: methods of about the same size that share a letter") for note in notes)
    assert "set" not in summary_cells(read_all(folder), 120)[0]


def test_one_seed_is_judged_over_the_test_rows(made):
    folder = made(seeds=(0,))
    text = report(folder)
    assert "95 % over test rows" in text
    assert "One seed was run, so there is no spread over seeds." in text
    assert "One seed was run: what another would change is not known." in section(text)
    answer = headline(read_all(folder), folder)
    assert "within the spread of the test rows on the one seed run" in answer
    assert "one seed was run, so what another would change is unknown" in answer
    rows, sure = judged(folder)
    # an independent figure: the difference's spread over resampled rows
    scores, rng = [predictions(method, 0) for method in ("hash", "full")], np.random.default_rng(0)
    gaps = []
    for _ in range(1000):
        drawn = rng.integers(0, ROWS, ROWS)
        gaps.append(auc_of(scores[0][drawn], LABELS[drawn]) - auc_of(scores[1][drawn], LABELS[drawn]))
    assert sure.to_full(rows["hash"]).row_error == pytest.approx(np.std(gaps), rel=0.1)


def test_a_folder_without_labels_is_judged_over_its_seeds_and_says_so(made):
    folder = made(labels=None)
    text = report(folder)
    assert "rows |" not in text.partition("## Results")[2].partition("\n## ")[0]
    assert "What other test rows would change is not known" in section(text)
    assert "over the spread" not in text
    once = made(seeds=(0,), labels=None, folder="once")
    text = report(once)
    assert "## Which differences" not in text
    assert "which differences are more than chance is unknown" in text


def broken_predictions(folder, method, seed):
    (path,) = (folder / "records").glob(f"{method}-s{seed}-*.npy")
    return path


@pytest.mark.parametrize("how", ["gone", "damaged", "no numbers", "too few"])
def test_runs_whose_predictions_are_lost_are_judged_by_what_is_left(made, how):
    folder = made()
    rows, whole = judged(folder)
    for seed in (0, 1, 2):
        path = broken_predictions(folder, "tt", seed)
        if how == "gone":
            path.unlink()
        elif how == "damaged":
            path.write_bytes(path.read_bytes()[:60])
        else:
            kept = np.load(path)
            np.save(path, np.full(ROWS, np.nan, np.float32) if how == "no numbers" else kept[:-1])
    rows, sure = judged(folder)
    assert sure.to_full(rows["tt"]).over == "seeds"
    assert sure.to_full(rows["robe"]).over == "seeds and rows"
    assert sure.between(rows["robe"], rows["qr"]) == replace(
        whole.between(rows["robe"], rows["qr"]), corrected=sure.between(rows["robe"], rows["qr"]).corrected
    )
    assert re.search(r"\| tt \|.* \(seeds\) \|", report(folder))


def test_one_seed_with_predictions_stands_for_the_others_from_above(made):
    folder = made()
    rows, whole = judged(folder)
    for seed in (1, 2):
        broken_predictions(folder, "tt", seed).unlink()
    _, sure = judged(folder)
    assert sure.to_full(rows["tt"]).over == "seeds and rows"
    assert sure.to_full(rows["tt"]).row_error > whole.to_full(rows["tt"]).row_error


def test_predictions_in_another_order_are_not_paired(made):
    """As a test loader that shuffles gives them: they do not make the AUC of the record with these labels."""

    def shuffled(method, seed):
        scores = predictions(method, seed)
        return scores if method == "full" else np.random.default_rng(seed).permutation(scores)

    folder = made(methods=("full", "hash"), of=shuffled)
    for path in (folder / "records").glob("hash*.json"):
        text = path.read_text()
        auc = auc_of(predictions("hash", int(re.search(r"-s(\d)-", path.name)[1])))
        path.write_text(re.sub(r'"auc": [0-9.]+', f'"auc": {auc}', text, count=1))
    rows, sure = judged(folder)
    assert sure.to_full(rows["hash"]).over == "seeds"


@pytest.mark.parametrize("labels", [np.zeros(ROWS, np.int8), np.ones(ROWS, np.int8), LABELS[:-1]])
def test_labels_that_tell_nothing(made, labels):
    rows, sure = judged(made(labels=labels))
    assert sure.to_full(rows["tt"]).over == "seeds"
    assert sure.row_count == 0


def test_damaged_labels_are_none(made):
    folder = made()
    labels_path(folder, "9f2c").write_bytes(b"\x93NUMPY")
    assert "95 % over seeds and rows" not in report(folder)
    save_labels(folder, "9f2c", LABELS)  # and are written anew
    assert "95 % over seeds and rows" in report(folder)


def test_the_same_predictions_cannot_be_told_apart(made):
    folder = made(methods=("full", "tt", "qr"), of=lambda method, seed: predictions("full", seed))
    _, sure = judged(folder)
    found = sure.between(*sure.groups[0])
    assert (found.mean, found.half_width, found.p, found.told) == (0.0, 0.0, 1.0, False)
    assert sure.places["tt"].letters == sure.places["qr"].letters == "a"
    assert "0.0000 to 0.0000" in report(folder)


def test_methods_without_a_shared_seed_are_not_compared(made):
    folder = made(
        seeds={"full": (0, 1), "tt": (2, 3), "robe": (0, 1), "qr": (1,)}, methods=("full", "tt", "robe", "qr")
    )
    rows, sure = judged(folder)
    assert sure.to_full(rows["tt"]) is None
    assert sure.to_full(rows["qr"]).over == "rows"
    assert sure.between(*(row for row in sure.groups[0] if row.label != "qr")) is None
    assert re.search(r"\| qr \|.* \(rows\) \|", report(folder))
    headline(read_all(folder), folder)


def test_only_methods_of_about_one_size_are_compared_with_one_another(made, run):
    folder = made(methods=("full", "tt", "robe"))
    for seed in (0, 1, 2):
        scores = predictions("hash", seed)
        save(folder, run("hash", seed, auc=auc_of(scores), ratio=100.0), scores)
    _, sure = judged(folder)
    assert (sure.comparisons, sure.comparisons_with_full) == (1, 3)
    assert set(sure.places) == {"tt", "robe"}


def test_two_folders_are_judged_together(made):
    one, other = made(methods=("full", "tt")), made(methods=("hash",), folder="more", labels=None)
    rows = summary([*read_all(one), *read_all(other)])
    sure = judge(rows, [one, other])
    assert {sure.to_full(row).over for row in rows[1:]} == {"seeds and rows"}
    text = write_report(one.parent / "both", [*read_all(one), *read_all(other)], sources=[one, other]).read_text()
    assert "95 % over seeds and rows" in text
