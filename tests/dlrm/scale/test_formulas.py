"""The formulas of a step on many devices, against simulations, real modules and properties."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Generator
from torch.nn import Linear

from embpress.compressors import TableCollection, parse
from embpress.compressors.errors import InputError
from embpress.compressors.ledger import held_bytes as held_by
from embpress.dlrm.bench.roofline import gather
from embpress.dlrm.models.dlrm import DLRM
from embpress.dlrm.scale.answer import Question, answers
from embpress.dlrm.scale.base import Machine, Network
from embpress.dlrm.scale.collectives import Sent, all_to_all, ring_all_reduce
from embpress.dlrm.scale.step import (
    Hardware,
    copied_traffic,
    dense_traffic,
    fewest_devices,
    held_bytes,
    row_traffic,
    sharded_sent,
    sharded_traffic,
    step,
)
from embpress.dlrm.scale.tables import Tables
from embpress.dlrm.scale.workload import Workload

WORK = Workload((5000, 3000, 300, 50), dim=16, batch=512, num_dense=5, bottom=(32,), top=(64, 16), optimizer="adagrad")
HARDWARE = Hardware(Machine("made", 1e9, 1e11, 1e13), Network("made", 1e9, 1e-5))


@pytest.mark.parametrize("devices", [1, 2, 3, 8])
def test_a_ring_sends_what_the_formula_says(devices):
    """The algorithm itself: a reduce-scatter and an all-gather of P chunks around a ring."""
    chunks = [[{(device, chunk)} for chunk in range(devices)] for device in range(devices)]
    sent, messages = [0] * devices, 0
    for phase in range(2 * (devices - 1)):
        gathering = phase >= devices - 1
        moved = []
        for device in range(devices):
            chunk = (device - phase + (1 if gathering else 0) + (devices - 1 if gathering else 0)) % devices
            moved.append(((device + 1) % devices, chunk, chunks[device][chunk]))
            sent[device] += 1
        for to, chunk, value in moved:
            chunks[to][chunk] = chunks[to][chunk] | value
        messages += 1
    whole = [[{(device, chunk) for device in range(devices)} for chunk in range(devices)]] * devices
    assert chunks == whole
    size = 24_000
    assert ring_all_reduce(size, devices) == Sent(sent[0] * size / devices, messages)


@pytest.mark.parametrize("devices", [1, 2, 5])
def test_the_shuffle_sends_what_each_table_holds_for_the_samples_of_others(devices):
    batch, tables, dim = 10 * devices, 2 * devices, 4
    sent = [0] * devices
    for table in range(tables):
        for sample in range(batch):
            home, to = table % devices, sample // 10
            sent[home] += (home != to) * 4 * dim
    assert len(set(sent)) == 1
    assert all_to_all(4 * batch * tables * dim, devices) == Sent(sent[0], devices - 1)


def test_seconds_are_latency_and_bytes():
    assert Sent(2e9, 3).seconds(Network("n", 1e9, 0.5)) == pytest.approx(3.5)
    assert Sent(1, 1) + Sent(2, 3) == Sent(3, 4)


def test_flops_and_parameters_are_those_of_the_model():
    tables = TableCollection.build(WORK.configs, "full")
    model = DLRM(5, tables, bottom=(32,), top=(64, 16), generator=Generator())
    dense = [p for name, p in model.named_parameters() if not name.startswith("tables")]
    assert WORK.dense_parameters == sum(p.numel() for p in dense)
    pairs = len(WORK.rows) * (len(WORK.rows) + 1) // 2
    once = model.dense_flops() + 2 * pairs * WORK.dim
    assert WORK.flops == 3 * once
    assert replace(WORK, training=False).flops == once
    assert WORK.full_bytes == tables.full_bytes
    moved = []
    for layer in (m for m in model.modules() if isinstance(m, Linear)):
        layer.register_forward_hook(lambda _, inputs, output: moved.append(inputs[0].numel() + output.numel()))
    model(torch.rand(1, 5), torch.zeros(1, len(WORK.rows), dtype=torch.long))
    assert WORK.moved == sum(moved) + (len(WORK.rows) + 1) * WORK.dim
    samples = 4 * WORK.batch * WORK.moved
    inference = replace(WORK, training=False)
    assert dense_traffic(inference, 2) == samples / 2 + 4 * WORK.dense_parameters
    assert dense_traffic(replace(WORK, optimizer="sgd"), 2) == 3 * samples / 2 + 24 * WORK.dense_parameters


@pytest.mark.parametrize("method", ["full", "robe", "qr", "hash:parts=2"])
def test_bytes_are_those_of_real_tables(method):
    shared, ratio = method != "full", None if method == "full" else 4.0
    tables = Tables(parse(method), WORK, ratio=ratio, shared=shared)
    real = TableCollection.build(WORK.configs, method, ratio=ratio, sparse=not shared)
    assert tables.gradient_bytes == sum(p.nbytes for p in real.parameters())
    assert tables.serving_bytes == held_by(real.fold())
    # what a batch keeps for the backward depends on the ops of the device, of which `meta` has none
    assert tables.memory(64) == pytest.approx(real.ledger("adagrad", 64).training_bytes, rel=0.02)
    assert tables.state_bytes == pytest.approx(tables.gradient_bytes, rel=0.02)  # Adagrad's: a number a parameter


def test_traffic_of_lookups_is_the_roofline_of_a_gather_in_endless_tables():
    work = replace(WORK, rows=(10**15, 10**15), training=False)
    one = sum(gather(n, work.dim, work.batch).moved for n in work.rows)
    assert row_traffic(work, work.batch) == pytest.approx(one)


def test_a_device_moves_and_holds_its_share():
    full, robe = Tables(parse("full"), WORK, shared=False), Tables(parse("robe"), WORK, ratio=4.0, shared=True)
    for devices, fewer in pairwise((8, 4, 2, 1)):
        assert sharded_traffic(WORK, full, fewer) == pytest.approx(
            devices / fewer * sharded_traffic(WORK, full, devices)
        )
        for tables, sharded in ((full, True), (robe, False)):
            assert held_bytes(WORK, tables, devices, sharded) < held_bytes(WORK, tables, fewer, sharded)
    endless = copied_traffic(WORK, robe, 10**9)  # what is left does not depend on the samples
    assert endless == pytest.approx(4 * robe.gradient_bytes + 2 * robe.state_bytes, rel=1e-3)
    assert copied_traffic(replace(WORK, training=False), robe, 10**9) == pytest.approx(0, abs=1)


def test_what_is_sent():
    count = len(WORK.rows) * WORK.batch
    dense = ring_all_reduce(4 * WORK.dense_parameters, 4).bytes
    shuffled = sharded_sent(WORK, 4).bytes - dense
    assert shuffled == pytest.approx(count * (8 + 2 * 4 * WORK.dim) * 3 / 16)
    robe = Tables(parse("robe"), WORK, ratio=4.0, shared=True)
    assert step(WORK, robe, HARDWARE, 1, sharded=False).sent == 0
    alone = step(replace(WORK, training=False), robe, HARDWARE, 4, sharded=False)
    assert (alone.sent, alone.network_s) == (0, 0)


def test_the_step_lies_between_its_longest_part_and_their_sum():
    tables = Tables(parse("robe"), WORK, ratio=4.0, shared=True)
    one = step(WORK, tables, HARDWARE, 4, sharded=False)
    parts = {"memory": one.memory_s, "network": one.network_s, "FLOPs": one.flops_s}
    assert one.at_least == parts[one.limit] == max(parts.values())
    assert one.at_most == pytest.approx(sum(parts.values()))
    fast = replace(HARDWARE, network=Network("fast", 1e15))
    assert step(WORK, tables, fast, 4, sharded=False).limit == "memory"
    slow = replace(fast, machine=Machine("slow", 1e9, 1e15, 1e6))
    assert step(WORK, tables, slow, 4, sharded=False).limit == "FLOPs"


@pytest.mark.parametrize(("method", "ratio", "sharded"), [("full", None, True), ("robe", 4.0, False)])
def test_the_fewest_devices_fit_and_one_less_does_not(method, ratio, sharded):
    tables = Tables(parse(method), WORK, ratio=ratio, shared=not sharded)
    for memory in (1e5, 1.8e5, 3e5, 1e6, 1e9):
        hardware = replace(HARDWARE, machine=replace(HARDWARE.machine, memory=memory))
        fewest = fewest_devices(WORK, tables, hardware, sharded)
        if fewest is None:
            assert not step(WORK, tables, hardware, 1 << 20, sharded).fits
            continue
        assert step(WORK, tables, hardware, fewest, sharded).fits
        assert fewest == 1 or not step(WORK, tables, hardware, fewest - 1, sharded).fits


def test_methods_that_cannot_reach_a_size_say_so_and_the_others_go_on():
    found = answers(Question(WORK, HARDWARE, 4, (parse("lowrank"), parse("robe")), ratio=100.0))
    assert [one.name for one in found] == ["full", "lowrank", "robe"]
    assert "reach" in found[1].reason or "smallest" in found[1].reason
    assert found[1].steps == ()
    assert found[2].serving_bytes * 100 <= WORK.full_bytes
    with pytest.raises(InputError, match="full tables, which stand there anyway"):
        answers(Question(WORK, HARDWARE, 4, (parse("full"),)))
    narrow = answers(Question(WORK, HARDWARE, 4, (parse("narrow"),), ratio=4.0))[1]
    assert narrow.on(4).flops < found[0].on(4).flops  # of a model that is narrower as a whole


def test_a_workload_that_is_none():
    with pytest.raises(InputError, match="at least one table"):
        Workload(())
    with pytest.raises(InputError, match="no optimizer 'adagrat'; did you mean 'adagrad'"):
        replace(WORK, optimizer="adagrat")
    with pytest.raises(InputError, match="batch"):
        replace(WORK, batch=0)
