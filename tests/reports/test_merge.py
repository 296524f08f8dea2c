"""Several run folders as one."""

from dataclasses import replace

import pytest

from embpress.compressors import InputError
from embpress.reports.merge import merged
from embpress.reports.summary import summary


def test_the_same_run_in_several_folders_counts_once_the_newest_good_one(run, lost):
    old = [run("full", 0, auc=0.70), run("hash", 0, auc=0.60), run("hash", 1, auc=0.61)]
    new = [
        run("hash", 0, auc=0.65, created="2027-01-01T00:00:00Z"),
        lost("hash", 1, created="2027-01-01T00:00:00Z"),
        run("hash", 2, auc=0.63),
        run("tt:rank=4", 0, auc=0.66),
    ]
    for folders in ({"a": old, "b": new}, {"b": new, "a": old}):
        pooled = merged(folders)
        assert len({one.id for one in pooled}) == len(pooled) == 5
        rows = {row.method: row for row in summary(pooled)}
        assert rows["hash"].auc_by_seed == {0: 0.65, 1: 0.61, 2: 0.63}
        assert rows["hash"].status == "ok"
        assert rows["hash"].auc_to_full.n == 1


def test_sizes_are_not_one_another(run):
    def at(ratio):
        return run("hash", asked={"ratio": ratio, "budget": None})

    assert len(merged({"a": [at(4.0)], "b": [at(16.0), at(4.0)]})) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda one: replace(one, data=replace(one.data, fingerprint="beef", name="avazu")), "avazu"),
        (lambda one: replace(one, training={**one.training, "epochs": 9}), "another epochs (3 and 9)"),
        (lambda one: replace(one, model={**one.model, "width": 8}), "another width (16 and 8)"),
    ],
)
def test_what_is_no_one_comparison_is_refused_by_name(run, change, words):
    with pytest.raises(InputError) as error:
        merged({"runs/a": [run("full")], "runs/b": [change(run("hash"))]})
    for word in ("runs/a", "runs/b", words, "--across"):
        assert word in str(error.value)
