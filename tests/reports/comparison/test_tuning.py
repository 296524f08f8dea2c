"""The report's section about tuning, and what its protocol says."""

import re

from embpress.reports import runs_frame, write_report


def tuned(chosen=None, edges=(), **changes):
    return {
        "how": "lr:0.01,0.02,0.04",
        "trials": 3,
        "chosen": chosen or {"learning_rate": 0.04},
        "default": {"learning_rate": 0.02},
        "valid_auc": 0.75,
        "default_valid_auc": 0.73,
        "auc": 0.745,
        "default_auc": 0.728,
        "edges": list(edges),
        **changes,
    }


TRAINING = {"optimizer": "adagrad", "learning_rate": "tuned by lr:0.01,0.02,0.04", "batch_size": 256, "epochs": 3}


def section(text, name):
    return re.search(rf"^## {name}\n\n(.*?)(?=^## |\Z)", text, re.M | re.S)[1]


def report(folder, *runs):
    return write_report(folder, runs).read_text()


def test_a_line_a_method_and_what_lies_at_the_edge(run, lost, tmp_path):
    full = {**tuned({"learning_rate": 0.02}), "auc": 0.74, "default_auc": 0.74}
    knobs = tuned({"learning_rate": 0.04, "init_scale": 4.0}, ["learning_rate", "init_scale"], failed=1)
    text = report(
        tmp_path,
        *(run("full", seed, training=TRAINING, tuned=full) for seed in (0, 1)),
        *(run("robe|x", seed, training=TRAINING, tuned=knobs) for seed in (0, 1)),
        lost("tt", training=TRAINING, status="cannot reach"),
    )
    found = section(text, "Tuning")
    assert found.count("| full | rate 0.02 | rate 0.02 | 0.7500 | 0.7300 | 0.7400 | 0.7400 | 3 |") == 1
    line = r"| robe\|x | rate 0.04, init_scale=4 | rate 0.02 | 0.7500 | 0.7300 | 0.7450 | 0.7280 | 3, 1 failed |"
    assert line in found
    assert "| tt |" not in found
    assert r"At the edge of what was tried, a wider grid may give more: robe\|x (rate, init_scale)." in found
    assert "best validation AUC of 3 trials each (lr:0.01,0.02,0.04), all with seed 0" in found
    assert r"By test AUC of seed 0 robe\|x is the best, at the default it would have been full; 2 of 2 methods" in found
    protocol = section(text, "Data and protocol")
    assert "learning rate tuned by lr:0.01,0.02,0.04" in protocol
    assert "own learning rate and knobs, 3 trials a method with seed 0" in protocol


def test_rates_alone_and_an_order_that_stays(run, tmp_path):
    text = report(
        tmp_path,
        run("full", training=TRAINING, tuned=tuned(auc=0.76, default_auc=0.75)),
        run("tt", training=TRAINING, tuned=tuned(default_auc=None)),
        run("qr", training=TRAINING, tuned=tuned()),
    )
    found = section(text, "Tuning")
    assert found.startswith("Learning rates were chosen")
    assert "edge" not in found
    assert "| tt | rate 0.04 | rate 0.02 | 0.7500 | 0.7300 | 0.7450 | – | 3 |" in found
    assert "The methods' order by test AUC of seed 0 is the same at the default." in found


def test_nothing_is_said_where_nothing_was_tuned(run, tmp_path):
    text = report(tmp_path, run("full"), run("tt"))
    assert "## Tuning" not in text
    assert "Tuned" not in text


def test_what_was_chosen_is_a_column_of_the_csv(run):
    frame = runs_frame([run("full", tuned=tuned({"learning_rate": 0.04, "k": 8})), run("tt")])
    assert frame["tuned"].tolist()[0] == "learning_rate=0.04 k=8"
    assert frame["tuned"].isna().tolist() == [False, True]
