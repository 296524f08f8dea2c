"""The clock on the CPU, and on CUDA with a device that is played: a queue of work whose end is known."""

import time

import pytest
import torch

from embpress.dlrm.bench.timing import paired, seconds_of
from embpress.dlrm.measure.clock import Clock
from embpress.dlrm.measure.latency import percentiles


class Played:
    """One stream: the host queues work at `host` seconds, the device is through with what is queued at `device`."""

    def __init__(self):
        self.host = self.device = 0.0
        self.waits = 0

    def work(self, seconds, launch=0.0):
        """A call that takes the host `launch` and the device `seconds`."""
        self.host += launch
        self.device = max(self.device, self.host) + seconds

    def wait(self, *_):
        self.host = max(self.host, self.device)
        self.waits += 1


@pytest.fixture
def played(monkeypatch):
    stream = Played()

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self, on):
            assert on is stream
            self.at = max(stream.host, stream.device)  # when the device comes to it

        def synchronize(self):
            stream.host = max(stream.host, self.at)
            self.seen = True

        def elapsed_time(self, later):
            assert later.seen  # torch refuses to tell before
            return 1e3 * (later.at - self.at)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "synchronize", stream.wait)
    return stream


def test_on_the_cpu_a_call_takes_until_it_returns():
    clock = Clock()
    result, taken = clock.start(lambda: time.sleep(0.02) or "done")
    assert result == "done"
    time.sleep(0.03)  # none of its business
    assert 0.02 <= taken() < 0.03 + 0.02
    assert clock.seconds(lambda: time.sleep(0.02)) >= 0.02


def test_on_cuda_a_call_takes_until_its_work_is_done(played):
    clock = Clock("cuda")
    assert clock.seconds(lambda: played.work(0.25, launch=0.01)) == pytest.approx(0.26)  # the device waited for it


def test_a_single_call_does_not_pay_for_the_work_before_it(played):
    played.work(5.0)
    assert Clock("cuda").seconds(lambda: played.work(0.25)) == pytest.approx(0.25)
    assert played.waits == 1


def test_steps_that_follow_each_other_are_timed_without_a_wait(played):
    clock = Clock("cuda")
    taken = [clock.start(lambda t=t: played.work(t, launch=0.01))[1] for t in (0.1, 0.2, 0.3)]
    assert played.host == pytest.approx(0.03)  # the host is far ahead
    assert [t() for t in taken] == pytest.approx([0.11, 0.2, 0.3])  # only the first waits for its launch
    assert played.waits == 0


def test_a_block_counts_as_the_mean_of_its_calls(played):
    assert seconds_of(lambda i: played.work(0.1 * i), Clock("cuda"), start=1, count=4) == pytest.approx(0.25)


def test_latency_percentiles_are_of_the_device(played):
    found = percentiles(lambda i: played.work(1e-3 if i % 2 else 2e-3), 0.0, Clock("cuda"))
    assert found["p50"] == pytest.approx(1500)
    assert found["p99"] == pytest.approx(2000)


def test_pairs_are_of_the_device(played):
    times = paired([lambda i: played.work(0.2), lambda i: played.work(0.6)], 0.0, Clock("cuda"), min_repeats=5)
    assert times.ratio(1, 0).median == pytest.approx(3)
    assert times.of(0).median == pytest.approx(0.2)
