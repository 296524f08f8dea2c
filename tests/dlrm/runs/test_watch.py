"""Workers of one comparison: each run is made once, whoever dies, and is what one process would have made."""

import json
import os
import signal
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from forked import FORK, watched

from embpress.compressors import InputError, parse_all
from embpress.dlrm.data import load
from embpress.dlrm.runs import compare as comparing
from embpress.dlrm.runs import store
from embpress.dlrm.runs.claims import Claims
from embpress.dlrm.runs.compare import Step, compare
from embpress.dlrm.runs.seeds import AutoSeeds, in_rounds
from embpress.dlrm.training.settings import resolve

METHODS = parse_all("full,hash:ratio=4,tt:rank=2,qr:c=4")


@pytest.fixture(scope="module")
def data():
    return load(rows=3000, scale=0.001, min_count=1)


@pytest.fixture(scope="module")
def settings():
    return replace(resolve(3000, threads=1, width=8), latency_seconds=0.0)


@pytest.fixture(scope="module")
def alone(data, settings, tmp_path_factory):
    """The runs of one process."""
    folder = tmp_path_factory.mktemp("alone")
    for step in compare(data, METHODS, settings, [0, 1, 2], folder):
        assert step.run.ok
    return results(folder)


@pytest.fixture
def tally(monkeypatch, tmp_path):
    """Counts what this process and its forks save."""
    path, save = tmp_path / "tally", store.save

    def telling(folder, run, predictions=None):
        written = save(folder, run, predictions)
        with path.open("a") as lines:
            lines.write(f"{os.getpid()} {folder.name} {run.id}\n")
        return written

    monkeypatch.setattr(store, "save", telling)

    def counted(part="run"):
        lines = [line.split() for line in path.read_text().splitlines()]
        return Counter(run for _, folder, run in lines if folder == part), {process for process, _, _ in lines}

    return counted


def results(folder):
    """What of the records does not depend on time, by id."""
    found = {}
    for path in sorted((folder / "records").glob("*.json")):
        record = json.loads(path.read_text())
        kept = {key: record[key] for key in ("status", "tables", "tuned", "latency_of_seed", "served", "by_frequency")}
        scores = {key: record["metrics"].get(key) for key in ("auc", "auc_last", "valid_auc", "log_loss", "ratio")}
        predictions = path.with_suffix(".npy")
        found[path.stem] = {**kept, **scores}, np.load(predictions).tobytes() if predictions.exists() else None
    return found


def test_each_run_is_made_once_with_the_same_result(data, settings, alone, tally, tmp_path):
    folder, told = tmp_path / "run", []

    def steps(claims):
        return compare(data, METHODS, settings, [0, 1, 2], folder, claims=claims)

    with watched(folder, steps, 3, lambda *now: told.append(now)) as watch:
        made = list(steps(watch))
    assert results(folder) == alone
    times, processes = tally()
    assert times == Counter(list(alone))
    assert str(os.getpid()) not in processes
    assert 2 <= len(processes) <= 3
    assert sorted(step.number for step in made) == list(range(1, 13))
    assert not any(step.kept for step in made)
    assert {step.run.id: step.run.metrics["auc"] for step in made} == {
        name: scores["auc"] for name, (scores, _) in alone.items()
    }
    assert [path.name for path in folder.iterdir()] == ["records"]
    assert {total for _, total, _ in told} == {12}
    assert any(" · seed " in running and " | " in running for _, _, running in told)
    # all is there: nobody is started
    with watched(folder, steps) as watch:
        assert all(step.kept for step in steps(watch))
        assert watch.started == 0
    assert not watch.executor.closed


def dying(monkeypatch, method, once=None):
    """A fork that is about to train a method is killed: the first one alone where a file says so."""
    parent, run = os.getpid(), comparing.run

    def killed(data, spec, *arguments, **keywords):
        if spec.name == method and os.getpid() != parent:
            try:
                if once is not None:
                    once.open("x").close()
                os.kill(os.getpid(), signal.SIGKILL)
            except FileExistsError:
                pass
        return run(data, spec, *arguments, **keywords)

    monkeypatch.setattr(comparing, "run", killed)


@pytest.mark.parametrize("method", ["full", "qr"])
def test_a_worker_that_is_killed_gives_its_run_back(method, data, settings, alone, tally, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    dying(monkeypatch, method, tmp_path / "died")

    def steps(claims):
        return compare(data, METHODS, settings, [0, 1, 2], folder, claims=claims)

    with watched(folder, steps) as watch:
        made = list(steps(watch))
    assert (tmp_path / "died").exists()
    assert watch.started == 3
    assert all(step.run.ok for step in made)
    found = results(folder)
    for name, (scores, predictions) in alone.items():
        assert found[name][1] == predictions
        assert {**found[name][0], "latency_of_seed": 0} == scores  # a later seed may have ended first
    assert tally()[0] == Counter(list(alone))


def test_a_run_that_kills_its_workers_fails_and_is_tried_again_by_the_next_command(
    data, settings, alone, tmp_path, monkeypatch
):
    def steps(claims):
        return compare(data, METHODS, settings, [0], tmp_path, claims=claims)

    with monkeypatch.context() as patch:
        dying(patch, "hash")
        with watched(tmp_path, steps) as watch:
            made = {step.run.name: step.run for step in steps(watch)}
    assert made["hash"].status == "failed"
    assert made["hash"].reason.startswith("3 workers died while they made it")
    assert [one.ok for name, one in made.items() if name != "hash"] == [True] * 3
    with watched(tmp_path, steps) as watch:
        again = {step.run.name: step for step in steps(watch)}
    assert [name for name, step in again.items() if not step.kept] == ["hash"]
    assert results(tmp_path) == {name: one for name, one in alone.items() if "-s0-" in name}


def test_a_run_that_fails_is_not_made_by_every_worker(data, settings, tally, tmp_path):
    folder = tmp_path / "run"
    hopeless = replace(settings, optimizer="sgd", learning_rate=1e30)

    def steps(claims):
        return compare(data, METHODS[:2], hopeless, [0, 1], folder, claims=claims)

    for _ in range(2):
        with watched(folder, steps) as watch:
            made = list(steps(watch))
        assert [step.run.status for step in made] == ["failed"] * 4
        assert not any(step.kept for step in made)
    assert set(tally()[0].values()) == {2}  # once by each command


def test_two_commands_at_once_share_the_runs(data, settings, alone, tally, tmp_path):
    folder = tmp_path / "run"

    def command():
        made = list(compare(data, METHODS, settings, [0, 1, 2], folder))
        os._exit(0 if len(made) == 12 and all(step.run.ok for step in made) else 1)

    commands = [FORK.Process(target=command) for _ in range(2)]
    for each in commands:
        each.start()
    for each in commands:
        each.join()
        assert each.exitcode == 0
    assert results(folder) == alone
    assert tally()[0] == Counter(list(alone))


def test_the_run_of_a_command_that_has_stalled_is_taken_over_and_its_own_result_dropped(
    data, settings, alone, tally, tmp_path, monkeypatch
):
    folder, run = tmp_path / "run", comparing.run
    stalled = Claims(folder, beat=100)
    monkeypatch.setattr(comparing, "run", lambda *a, **k: (time.sleep(1.5), run(*a, **k))[1])
    slow = FORK.Process(target=lambda: list(compare(data, METHODS[:1], settings, [0], folder, claims=stalled)))
    slow.start()
    while not list(folder.glob("claims/*.claim")):
        time.sleep(0.01)
    monkeypatch.setattr(comparing, "run", run)
    (step,) = compare(data, METHODS[:1], settings, [0], folder, claims=Claims(folder, stale=0.2))
    slow.join()
    assert slow.exitcode == 0
    assert step.run.ok
    assert tally()[0] == Counter([step.run.id])
    assert results(folder) == {step.run.id: alone[step.run.id]}


def test_trials_and_added_seeds_are_those_of_one_process(data, settings, tally, tmp_path):
    tuned = replace(settings, tune="lr:0.2")
    methods = parse_all("full,hash:ratio=4,narrow:ratio=900")

    def steps(folder, claims):
        return in_rounds(AutoSeeds(0.9, 4), lambda some: compare(data, methods, tuned, some, folder, claims=claims))

    one, several = tmp_path / "one", tmp_path / "several"
    lines = [[], []]
    lines[0] += [step for step in steps(one, Claims(one)) if not isinstance(step, Step)]
    with watched(several, lambda claims: steps(several, claims)) as watch:
        lines[1] += [step for step in steps(several, watch) if not isinstance(step, Step)]
    assert results(several) == results(one)
    assert results(several / "trials") == results(one / "trials")
    assert len(results(one / "trials")) == 4
    assert set(tally("several")[0].values()) == {1}
    texts = [[step for step in each if isinstance(step, str)] for each in lines]
    assert texts[0] == texts[1] != []
    numbers = [sorted(step.number for step in each if not isinstance(step, str)) for each in lines]
    assert numbers[0] == numbers[1] == [1, 2, 3, 4]


def test_trials_that_all_failed_are_tried_again_by_the_next_command_alone(data, settings, tally, tmp_path):
    folder = tmp_path / "run"
    hopeless = replace(settings, optimizer="sgd", learning_rate=1e30, tune="lr:1e31")

    def steps(claims):
        return compare(data, METHODS[:2], hopeless, [0], folder, claims=claims)

    for _ in range(2):
        with watched(folder, steps) as watch:
            assert not any(step.run.ok or step.kept for step in steps(watch))
    assert set(tally("trials")[0].values()) == {2}


def test_workers_that_cannot_work_are_not_started_for_ever(data, settings, tmp_path):
    def steps(claims):
        return compare(data, METHODS, settings, [0], tmp_path, claims=claims)

    def broken(claims):
        os._exit(1)

    watch = watched(tmp_path, broken)
    with pytest.raises(InputError, match="workers cannot go on, the last one ended with: status 1"), watch:
        list(steps(watch))
    assert 3 <= watch.started <= 12
    assert watch.executor.closed


@pytest.mark.parametrize("status", [1, 2])
def test_a_machine_where_nothing_works_does_not_stop_the_others(status, data, settings, alone, tmp_path):
    """The first of two workers ends at once, and so do all that replace it."""
    folder = tmp_path / "run"

    def steps(claims):
        return compare(data, METHODS, settings, [0, 1, 2], folder, claims=claims)

    def some(claims):
        try:
            (tmp_path / "works").open("x").close()
        except FileExistsError:
            os._exit(status)
        return steps(claims)

    with watched(folder, some) as watch:
        assert len(list(steps(watch))) == 12
    assert results(folder) == alone
    assert watch.started == 2 if status == 2 else watch.started >= 3


def test_workers_with_other_data_say_so(data, settings, tmp_path):
    other = load(rows=3000, scale=0.001, min_count=1, seed=1)

    def steps(claims, of=data):
        return compare(of, METHODS, settings, [0], tmp_path, claims=claims)

    watch = watched(tmp_path, lambda claims: steps(claims, other))
    with pytest.raises(InputError, match="workers cannot go on"), watch:
        list(steps(watch))
    assert (tmp_path / "said").read_text().startswith("a worker has other data or settings than its command")
    assert results(tmp_path) == {}


def test_an_interruption_stops_the_workers(data, settings, tmp_path):
    def steps(claims):
        return compare(data, METHODS, settings, range(50), tmp_path, claims=claims)

    def interrupted(watch):
        next(iter(steps(watch)))
        raise KeyboardInterrupt

    watch = watched(tmp_path, steps)
    with pytest.raises(KeyboardInterrupt), watch:
        interrupted(watch)
    assert watch.workers
    assert not any(worker.process.is_alive() for worker in watch.workers)
    assert 1 <= len(results(tmp_path)) < 200
    assert not (tmp_path / "claims").exists()
