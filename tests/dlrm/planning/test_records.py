"""Runs of comparisons as probes: the very score that a probe of the same would have, and only where it is the same."""

import json
from dataclasses import replace

import pytest

from embpress.compressors import parse
from embpress.dlrm.data import load
from embpress.dlrm.planning.candidate import Candidate, Goal, at_width
from embpress.dlrm.planning.probe import Effort, Prober
from embpress.dlrm.planning.records import Records
from embpress.dlrm.runs.compare import compare
from embpress.dlrm.runs.experiment import table_configs
from embpress.dlrm.training.settings import resolve

SPECS = ("hash", "hash+int4", "full+int4", "robe+hot:fraction=0.05+int2")


@pytest.fixture(scope="module")
def data():
    return load(rows=3000, scale=0.002, min_count=1)


@pytest.fixture(scope="module")
def settings():
    return replace(resolve(3000, threads=1, width=8, min_rows=100, epochs=2, ratio=4.0), latency_seconds=0.0)


@pytest.fixture(scope="module")
def folder(data, settings, tmp_path_factory):
    place = tmp_path_factory.mktemp("runs")
    for _ in compare(data, [parse(spec) for spec in SPECS], settings, [0, 1], place):
        pass
    tuned = replace(settings, tune="lr:0.02,0.05")
    for _ in compare(data, [parse("hash+int4")], tuned, [0], place / "tuned"):
        pass
    return place


def candidate(data, settings, text):
    configs = table_configs(data, settings.width)
    full = sum(4 * n * dim for n, dim, _ in configs)
    size = 1 << 62 if text.startswith("full") else full // 4
    return Candidate(text, at_width(Goal(configs, size, settings), parse(text), settings.width), single=text)


@pytest.mark.parametrize("text", SPECS)
def test_a_run_says_what_a_probe_would(data, settings, folder, tmp_path, text):
    one, effort = candidate(data, settings, text), Effort(2)
    known = Records.read([folder], data, settings)
    assert len(known) == len(SPECS)
    found = Prober(data, settings, tmp_path / "known", known).probe(one, 0, effort)
    made = Prober(data, settings, tmp_path / "made").probe(one, 0, effort)
    assert (found.auc, found.error) == (made.auc, made.error)
    assert found.seconds == 0 < made.seconds


def test_trials_are_known_at_their_rates(data, settings, folder):
    known = Records.read([folder / "tuned"], data, settings)
    one = candidate(data, settings, "hash+int4")
    aucs = [known.scores(one, rate)["auc"] for rate in (0.02, 0.05)]
    assert aucs[0] != aucs[1]
    assert aucs[0] == Records.read([folder], data, settings).scores(one, 0.02)["auc"]
    assert known.scores(one, 0.04) is None


def test_what_differs_is_not_the_same_probe(data, settings, folder, tmp_path):
    one = candidate(data, settings, "hash+int4")
    known = Records.read([folder], data, settings)
    prober = Prober(data, settings, tmp_path, known)
    assert prober.probe(one, 1, Effort(2)).seconds > 0  # other rows are held out
    assert prober.probe(one, 0, Effort(1)).seconds > 0
    assert known.scores(replace(one, single=None), 0.02) is None
    others = [replace(settings, epochs=3), replace(settings, batch_size=64), replace(settings, min_rows=50)]
    assert not any(len(Records.read([folder], data, other)) for other in others)
    assert not len(Records.read([folder], load(rows=2000, scale=0.002, min_count=1), settings))
    assert not len(Records.read([tmp_path], data, settings))


def test_without_a_served_score_of_the_validation_part_codes_are_tried_anew(data, settings, folder):
    """As in records of before there was one."""
    runs = []
    for path in sorted((folder / "records").glob("*.json")):
        value = json.loads(path.read_text(encoding="utf-8"))
        value["metrics"].pop("valid_auc_served", None)
        path.write_text(json.dumps(value), encoding="utf-8")
        runs.append(value["method"])
    known = Records.read([folder], data, settings)
    assert known.scores(candidate(data, settings, "hash+int4"), 0.02) is None
    assert known.scores(candidate(data, settings, "hash"), 0.02) is not None
