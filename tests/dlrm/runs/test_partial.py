"""Runs in the middle: taken up again they end as if nothing had happened, and what does not fit is left aside."""

import time
from dataclasses import replace

import pytest
import torch
from kill_runs.equal import differences

from embpress.compressors import InputError, parse, parse_all
from embpress.dlrm.data import load
from embpress.dlrm.runs import partial as partials
from embpress.dlrm.runs import store
from embpress.dlrm.runs.compare import compare
from embpress.dlrm.runs.experiment import run
from embpress.dlrm.runs.partial import Partial, PartialWarning, check_minutes
from embpress.dlrm.runs.store import read_all
from embpress.dlrm.training.settings import resolve

ALWAYS = 1e-9  # minutes: after every step
# each remembers more than its weights: counts, pointers, rows that moved, ranges, generators
METHODS = "prune,cce,tt:rank=2:cache_rows=9:warmup=3:refresh=4+hot:rows=5:online=true,hash+int4:train=true"


class Killed(BaseException):
    """As Ctrl-C and kill, nothing that a run catches."""


@pytest.fixture(scope="module")
def data():
    return load(rows=3000, scale=0.001, min_count=1)


def settings_for(**changes):
    return replace(resolve(3000, threads=1, **changes), latency_seconds=0.0, min_rows=20)


@pytest.fixture(scope="module")
def settings():
    return settings_for(epochs=2, batch_size=200)


@pytest.fixture(scope="module")
def whole(data, settings, tmp_path_factory):
    """A folder of runs that nobody has interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    assert all(step.run.ok for step in compare(data, parse_all(METHODS), settings, [0], folder, keep_weights=True))
    return folder


def killing(after):
    """The progress of runs each of which is killed at these numbers of samples, once at each."""
    left = {}

    def progress(number, total, title):
        mine = left.setdefault(title, list(after))

        def advance(done, of, what):
            if what == "training" and mine and done >= mine[0]:
                mine.pop(0)
                raise Killed

        return advance

    return progress


def made(data, methods, settings, folder, after=(), minutes=ALWAYS, **more):
    """Makes a comparison, as often as it takes, where each run is killed at `after`: all steps of the last time."""
    progress = killing(after)
    while True:
        try:
            return list(compare(data, methods, settings, [0], folder, "", progress, checkpoint_minutes=minutes, **more))
        except Killed:
            continue


def test_a_run_that_is_killed_again_and_again_ends_as_if_it_had_not_been(data, settings, whole, tmp_path):
    """In the first epoch, at its end, and in the second; 11 steps an epoch, 4 points of the curve."""
    made(data, parse_all(METHODS), settings, tmp_path, [400, 2160, 3500], keep_weights=True)
    assert [run.resumed for run in read_all(tmp_path)] == [3] * 4
    assert differences(whole, tmp_path) == []
    assert not (tmp_path / "partial").exists()


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "rowwise_adagrad"])
def test_every_optimizer_goes_on(data, tmp_path, optimizer):
    settings = settings_for(epochs=2, batch_size=200, optimizer=optimizer)
    made(data, parse_all("full"), settings, tmp_path / "whole", minutes=0.0, keep_weights=True)
    (step,) = made(data, parse_all("full"), settings, tmp_path / "killed", [1600, 3000], keep_weights=True)
    assert step.run.resumed == 2
    assert differences(tmp_path / "whole", tmp_path / "killed") == []


def test_no_step_is_made_twice(data, settings, tmp_path, monkeypatch):
    """But the one that was killed while it was on its way to the file."""
    from embpress.dlrm.training import click_model

    steps = []
    train_step = click_model.train_step
    monkeypatch.setattr(click_model, "train_step", lambda *given: steps.append(given[-1]) or train_step(*given))
    made(data, parse_all("full"), settings, tmp_path, [2000, 3000])
    assert len(steps) == len(set(steps)) + 2
    assert sorted(set(steps)) == list(range(2 * 11))


def test_trials_go_on_in_the_middle(data, settings, tmp_path):
    tuned = replace(settings, tune="lr:0.01,0.02")
    made(data, parse_all("full"), tuned, tmp_path / "whole", minutes=0.0)
    made(data, parse_all("full"), tuned, tmp_path / "killed", [900])
    assert differences(tmp_path / "whole", tmp_path / "killed") == []
    trials = [store.read(path) for path in store.record_paths(tmp_path / "killed" / "trials")]
    assert [run.resumed for run in trials] == [1, 1]
    assert not (tmp_path / "killed" / "trials" / "partial").exists()


def trained(data, settings, path, after=(), minutes=ALWAYS):
    """A run by itself, without what is measured afterwards; killed where `after` says."""
    progress = killing(after)(1, 1, "full")
    return run(
        data, parse("full"), settings, 0, "", progress, counts=lambda found: False, partial=Partial(path, minutes)
    )


@pytest.fixture(scope="module")
def untouched(data, settings, tmp_path_factory):
    """Metrics and probabilities of a run that nobody has interrupted."""
    made, probabilities = trained(data, settings, tmp_path_factory.mktemp("none") / "a.pt", minutes=0.0)
    return made.metrics["auc"], probabilities.tolist()


def kept(data, settings, path):
    """The file of a run that was killed in its second epoch."""
    with pytest.raises(Killed):
        trained(data, settings, path, [3000])
    return path


def flipped(path):
    value = bytearray(path.read_bytes())
    value[len(value) // 2] ^= 4
    path.write_bytes(value)


def of_another(path, **changes):
    value = torch.load(path, weights_only=True)
    torch.save({**value, "of": {**value["of"], **changes}}, path)


def of_another_schema(path):
    torch.save({**torch.load(path, weights_only=True), "schema": "embpress-partial/0"}, path)


def without_an_optimizer(path):
    value = torch.load(path, weights_only=True)
    value["state"]["work"]["optimizers"].pop()
    torch.save(value, path)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (flipped, "is damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:-500]), "is damaged"),
        (lambda path: path.write_bytes(b""), "is damaged"),
        (lambda path: torch.save({"a": 1}, path), "no checkpoint of this version"),
        (of_another_schema, "no checkpoint of this version"),
        (lambda path: of_another(path, run="robe"), "another run: robe instead of full"),
        (lambda path: of_another(path, torch="1.0"), "another torch: 1.0 instead of"),
        (lambda path: of_another(path, data="beef"), "another data: beef instead of"),
        (lambda path: of_another(path, weights=True), "another weights: True instead of False"),
        (without_an_optimizer, "does not fit"),
    ],
)
def test_what_is_damaged_or_of_something_else_is_left_aside(data, settings, untouched, tmp_path, harm, said):
    path = kept(data, settings, tmp_path / "a.pt")
    harm(path)
    with pytest.warns(PartialWarning, match=f"{said}.*: the run starts anew"):
        made, probabilities = trained(data, settings, path)
    assert (made.metrics["auc"], probabilities.tolist()) == untouched
    assert made.resumed == 0


def test_nothing_in_the_file_is_executed(data, settings, tmp_path):
    class Attack:
        def __reduce__(self):
            return (print, ("executed",))

    torch.save(Attack(), tmp_path / "a.pt")
    with pytest.warns(PartialWarning, match="is damaged"):
        trained(data, settings, tmp_path / "a.pt")


def test_a_full_disk_is_said_and_costs_a_checkpoint_alone(data, settings, untouched, tmp_path, monkeypatch):
    def full(path, write):
        with open("/dev/full", "wb", buffering=0) as file:
            try:
                write(file)
            except OSError as error:
                raise InputError(f"cannot write {path}: {error.strerror}") from None

    monkeypatch.setattr(partials, "write_atomic", full)
    with pytest.warns(PartialWarning, match=r"cannot write .*: No space left on device: the run goes on"):
        made, probabilities = trained(data, settings, tmp_path / "a.pt")
    assert (made.metrics["auc"], probabilities.tolist()) == untouched


def test_without_minutes_nothing_is_written_and_nothing_taken_up(data, settings, tmp_path):
    path = kept(data, settings, tmp_path / "a.pt")
    content = path.read_bytes()
    made, _ = trained(data, settings, path, minutes=0.0)
    assert made.resumed == 0
    assert path.read_bytes() == content


def test_the_time_of_writing_is_no_time_of_training(data, settings, tmp_path, monkeypatch):
    """By a clock on which each takes a day."""
    late = [0.0]
    write_atomic, now = partials.write_atomic, time.perf_counter

    def slow(path, write):
        late[0] += 86400.0
        write_atomic(path, write)

    monkeypatch.setattr(partials, "write_atomic", slow)
    monkeypatch.setattr(time, "perf_counter", lambda: now() + late[0])
    made, _ = trained(data, settings, tmp_path / "a.pt")
    assert late[0] == 22 * 86400.0
    assert made.metrics["train_seconds"] < 86400.0


def test_a_failed_run_keeps_what_it_had_for_the_next_time(data, settings, tmp_path, monkeypatch):
    from embpress.dlrm.training import click_model

    train_step = click_model.train_step

    def failing(model, optimizers, batch, step):
        if step == 20:
            raise RuntimeError("the device fell off")
        return train_step(model, optimizers, batch, step)

    with monkeypatch.context() as patch:
        patch.setattr(click_model, "train_step", failing)
        (step,) = made(data, parse_all("full"), settings, tmp_path / "a")
    assert (step.run.status, step.run.reason) == ("failed", "the device fell off")
    (step,) = made(data, parse_all("full"), settings, tmp_path / "a")
    assert step.run.ok
    assert step.run.resumed == 1
    made(data, parse_all("full"), settings, tmp_path / "whole", minutes=0.0)
    assert differences(tmp_path / "whole", tmp_path / "a") == []


def test_too_little_memory_to_go_on_leaves_what_was_kept(data, settings, tmp_path, monkeypatch):
    from embpress.dlrm.training import click_model

    def failing(*_):
        raise MemoryError

    step, count = click_model.train_step, iter(range(100))
    for name, stand_in in {
        "train_step": lambda *args: step(*args) if next(count) < 20 else failing(),
        "restore": failing,
    }.items():
        with monkeypatch.context() as patch:
            patch.setattr(click_model, name, stand_in)
            (found,) = made(data, parse_all("full"), settings, tmp_path)
        assert (found.run.status, found.run.reason) == ("failed", "out of memory")
        assert len(list((tmp_path / "partial").glob("*.pt"))) == 1
    (found,) = made(data, parse_all("full"), settings, tmp_path)
    assert found.run.resumed == 1


def test_a_file_of_a_run_that_is_recorded_is_taken_away(data, settings, tmp_path):
    (step,) = made(data, parse_all("full"), settings, tmp_path)
    path = tmp_path / "partial" / f"{step.run.id}.pt"
    path.parent.mkdir()
    path.touch()  # as of a process that was killed between record and file
    (step,) = made(data, parse_all("full"), settings, tmp_path)
    assert step.kept
    assert not path.exists()


def test_a_process_that_has_lost_its_claim_writes_nothing(tmp_path):
    class Lost:
        stands = False

    one = Partial(tmp_path / "partial" / "a.pt", ALWAYS, Lost())
    one.save({"a": 1})
    assert not one.path.exists()


@pytest.mark.parametrize("minutes", [-1, float("nan"), float("inf"), "5", True])
def test_minutes_are_a_number_from_0(minutes):
    with pytest.raises(InputError, match="minutes between checkpoints"):
        check_minutes(minutes)
