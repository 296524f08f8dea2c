"""Shares of ids and lookups that collide, table by table."""

import pytest

from embpress.reports import write_report
from embpress.reports.pages.collisions.data import in_all, shares, tables_of, unsaid
from embpress.reports.pages.collisions.page import NOTHING, lacks
from embpress.reports.summary import summary


def table(feature, n, sharing=None, **changes):
    return {
        "feature": feature,
        "num_embeddings": n,
        "embedding_dim": 16,
        "method": "hash",
        "serving_bytes": 100,
        "full_bytes": 64 * n,
        "sharing": sharing,
        **changes,
    }


def share(ids, whole, train, chance=None, **more):
    expected = {} if chance is None else {"whole_expected": chance, "whole_expected_train": chance}
    return {
        "ids": ids,
        "whole_ids": whole,
        "part_ids": whole,
        "whole_train": train,
        "part_train": train,
        **expected,
        **more,
    }


def made(run):
    hashed = [
        [table("a|x", 300, share(300, 0.8, 0.5 + seed / 10, 0.79)), table("b", 100, share(100, 0.4, 0.1, 0.41))]
        for seed in range(3)
    ]
    runs = [run("hash", seed, tables=tables) for seed, tables in enumerate(hashed)]
    runs.append(run("md", 0, tables=[table("a|x", 300, share(300, 0.0, 0.0))]))
    runs.append(run("dhe", 0, tables=[table("a|x", 300)]))
    runs.append(run("full", 0, tables=[table("a|x", 300, is_full=True)]))
    runs.append(run("robe", 0, tables=[table("a|x", 300, share(40, 0.9, 0.9, 0.0001))]))
    return runs


def test_lines(run):
    rows = {row.name: row for row in summary(made(run))}
    largest, other = tables_of(rows["hash"])
    assert (largest.feature, largest.ids, other.feature) == ("a|x", 300, "b")
    assert largest.numbers["whole_train"].mean == pytest.approx(0.6)
    total = in_all(rows["hash"]).numbers
    assert total["whole_ids"].mean == pytest.approx((300 * 0.8 + 100 * 0.4) / 400)
    assert total["whole_expected"].mean == pytest.approx((300 * 0.79 + 100 * 0.41) / 400)
    assert total["whole_train"].mean == pytest.approx((0.6 + 0.1) / 2)  # a row looks up in each table once
    assert total["others_train"] is None
    assert shares(rows["hash"])
    assert not shares(rows["md"])
    assert unsaid(list(rows.values())) == (["md"], ["dhe"])


def test_the_page(run, runs, tmp_path):
    write_report(tmp_path, made(run), ["collisions"])
    text = (tmp_path / "collisions.md").read_text()
    assert "| hash | a\\|x | 300 | 80.0 % (79.0 %) | 60.0 % (79.0 %) |" in text
    assert "More training lookups" in text
    assert "robe (90.0 %, by chance \\< 0.1 %)" in text
    assert "| robe | a\\|x | 300 † |" in text
    assert "a sample of its ids" in text
    assert "No two ids share anything stored for them in md." in text
    assert (tmp_path / "plots" / "collisions.png").exists()
    assert lacks(runs) == NOTHING
    assert lacks(made(run)) == ""
    write_report(tmp_path, runs, ["collisions"])
    assert NOTHING in (tmp_path / "collisions.md").read_text()
