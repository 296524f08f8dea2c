"""A team: who is ready, what is asked, who has left; and trainings that fail on one rank and go on with the next."""

import datetime
import multiprocessing
import os

import pytest
import torch
from shared_training import data, digests, model_of, settings
from torch.distributed import FileStore, HashStore

from embpress.compressors import InputError, parse
from embpress.dlrm.distributed.patience import VARIABLE, timeout
from embpress.dlrm.distributed.place import Place, share
from embpress.dlrm.distributed.team import STOPPED, Lost, Team, device_of
from embpress.dlrm.distributed.together import Training, lead, take_part, train
from embpress.dlrm.training.loop import RunFailed


@pytest.fixture
def pair(monkeypatch):
    monkeypatch.setenv(VARIABLE, "0.3")
    monkeypatch.setattr("embpress.dlrm.distributed.team.GRACE", 0.2)
    store = HashStore()
    return [Team(Place(rank, 2, rank, 2), store) for rank in (0, 1)]


def test_shares_are_all_rows_once():
    for count in (0, 1, 7, 256):
        for world in (1, 2, 3, 8):
            spans = [share(count, rank, world) for rank in range(world)]
            assert [start for start, _ in spans] == [0, *(stop for _, stop in spans[:-1])]
            assert spans[-1][1] == count
            assert max(b - a for a, b in spans) - min(b - a for a, b in spans) <= 1


def test_who_is_not_ready_is_named(pair):
    first, second = pair
    first.report("data")
    with pytest.raises(InputError, match=r"rank 1 was not ready within 0\.3 seconds"):
        first.gather()
    second.report(problem="no such file: clicks.csv")
    with pytest.raises(InputError, match=r"rank 1 cannot take part: no such file: clicks\.csv"):
        first.gather()
    second.report("others")
    with pytest.raises(InputError, match="rank 1 has other data"):
        first.gather()
    second.report("data")
    first.gather()
    assert [member.process for member in first.members.values()] == [os.getpid()] * 2


def test_orders_come_once_and_end(pair):
    first, second = pair
    for team in pair:
        team.report()
    first.gather()
    orders = second.orders()
    for number in (1, 2):
        first.ask({"seed": number})
        assert next(orders) == {"seed": number}
    first.store.set("order/3", b"end".hex() + ".")
    assert list(orders) == []


def test_who_says_nothing_is_lost_and_nothing_is_asked_any_more(pair):
    first, second = pair
    for team in pair:
        team.report()
    for team in pair:
        team.gather()
    first.ask("a run")
    first.left("")
    assert f"rank 1 (process {os.getpid()} on" in first.why()
    assert first.lost.endswith("gave no answer")
    assert first.survivor
    with pytest.raises(Lost, match="rank 1"):
        first.ask("another")
    second.rounds = 1
    second.left("out of memory")
    first.lost = None
    assert first.why() == "on rank 1: out of memory"
    assert first.lost is None


def test_who_is_stopped_by_itself_is_lost_and_who_is_stopped_with_the_others_is_not(pair):
    for team in pair:
        team.report()
    for team in pair:
        team.gather()
        team.rounds = 1
    first, second = pair
    second.left(STOPPED)
    first.left("")
    assert first.why().startswith(f"the process of rank 1 (process {os.getpid()} on ")
    assert first.lost.endswith(") was stopped")
    first.lost = None
    first.left(STOPPED)
    assert [first.why(), first.lost, second.lost] == ["on rank 0: stopped; on rank 1: stopped", None, None]


@pytest.mark.parametrize("said", ["0", "-1", "soon", "nan"])
def test_a_timeout_is_seconds(monkeypatch, said):
    monkeypatch.setenv(VARIABLE, said)
    with pytest.raises(InputError, match=VARIABLE):
        timeout()


def test_each_process_takes_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [device_of("cuda", Place(rank, 4, rank, 4)) for rank in range(4)] == ["cuda", "cuda:1"] * 2
    assert device_of("cpu", Place(1, 2, 1, 2)) == "cpu"
    with pytest.raises(InputError, match="each of several processes takes its own"):
        device_of("cuda:1", Place(0, 2, 0, 2))


def test_without_a_team_several_processes_are_refused():
    asked = settings(processes=2)
    with pytest.raises(InputError, match="processes=2, but this process leads no team"):
        train(Training(parse("full"), asked, 0), model_of("full", asked), data())


def unlucky(model):
    """A model whose fifth step fails as a device does."""
    score, steps = model.score, iter(range(4))

    def fails(dense, rows):
        if model.training and next(steps, None) is None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return score(dense, rows)

    model.score = fails


def one_rank(rank, path, pipe):
    torch.set_num_threads(1)
    os.environ[VARIABLE] = "60"
    store = FileStore(path, 2)
    store.set_timeout(datetime.timedelta(seconds=60))
    team = Team(Place(rank, 2, rank, 2), store)
    team.report("data")
    asked = settings(processes=2)
    ends = []
    if rank == 0:
        team.gather()
        with lead(team):
            for learning_rate, seed in ((0.02, 0), (1e30, 0), (0.02, 1)):
                asked = settings(processes=2, learning_rate=learning_rate)
                model = model_of("full", asked)
                try:
                    made = train(Training(parse("full"), asked, seed), model, data())
                    ends.append((made.metrics["auc"], digests(model, [])))
                except RunFailed as error:
                    ends.append(str(error))
    else:
        for number, order in enumerate(team.orders()):
            model = model_of("full", order.settings)
            if number == 0:
                unlucky(model)
            try:
                take_part(team, model, data(), order.settings, order.seed)
                ends.append(digests(model, []))
            except (RuntimeError, RunFailed) as error:
                ends.append(str(error))
    pipe.send((ends, team.lost))


def test_a_run_that_fails_on_one_rank_is_over_and_the_next_one_is_trained(tmp_path):
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for rank in (0, 1):
        here, there = context.Pipe()
        process = context.Process(target=one_rank, args=(rank, str(tmp_path / "store"), there), daemon=True)
        process.start()
        pipes.append(here)
        processes.append(process)
    try:
        assert all(pipe.poll(120) for pipe in pipes)
        (first, lost), (second, also) = (pipe.recv() for pipe in pipes)
    finally:
        for process in processes:
            process.kill()
            process.join()
    assert lost is also is None
    assert first[0] == f"on rank 1: {second[0]}" == "on rank 1: CUDA out of memory. Tried to allocate 2 GiB"
    assert "the loss is" in first[1]
    assert first[1] == second[1]  # all see it, and each says so
    assert first[2][1] == second[2]
