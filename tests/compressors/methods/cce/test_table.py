"""CCE: rows by their formula, bytes, budgets, clustering against k-means' own measure, what is kept in copies."""

import copy
import pickle

import pytest
import torch
from torch.nn.utils import prune

from embpress.compressors import BudgetError, InputError, TableCollection, TableConfig, begin_training, create, maintain
from embpress.compressors.methods.cce import CCE

PRIME = 2038074743


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def made(spec="cce:k=6:hashed=5", n=300, dim=8, **options):
    return create(spec, n, dim, **{"dtype": torch.float64, "generator": seeded(), **options})


def pointers(table):
    """Read bit by bit from the packed words."""
    bits = (table.k - 1).bit_length()
    number = int.from_bytes(table.pointers["words"].numpy().tobytes(), "little")
    flat = [number >> at * bits & ((1 << bits) - 1) for at in range(table.num_embeddings * table.parts)]
    return torch.tensor(flat).view(-1, table.parts)


def naive_rows(table, ids):
    """Each chunk a centre's row and a hashed one, in Python's integers."""
    chosen, rows = pointers(table), []
    for i in ids:
        chunks = []
        for part in range(table.parts):
            a, b, c, d = table.constants["coefficients"][:, part].tolist()
            x = (i * a + b) % PRIME
            x = ((x ^ (x >> 15)) * c + d) % PRIME
            hashed = part * table.hashed + (x ^ (x >> 15)) % table.hashed
            centre = part * table.k + int(chosen[i, part])
            chunks.append(table.own("part_tables")[hashed] + table.own("centres")[centre])
        rows.append(torch.cat(chunks))
    return torch.stack(rows).detach()


def near_groups(n=300, dim=8, groups=6, noise=0.0):
    """Rows that are few ones, each chunk by itself."""
    values = torch.randn(groups, dim, dtype=torch.float64, generator=seeded(5))
    member = torch.randint(groups, (n, 2), generator=seeded(6))
    rows = torch.cat([values[member[:, 0], : dim // 2], values[member[:, 1], dim // 2 :]], dim=1)
    return rows + noise * torch.randn(n, dim, dtype=torch.float64, generator=seeded(7))


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("spec", ["cce:k=6:hashed=5", "cce:k=1:hashed=3", "cce:k=33:parts=4", "cce:parts=1"])
def test_rows_are_centres_and_hashed_rows(spec, sparse):
    table = made(spec, sparse=sparse)
    ids = [0, 1, 57, 299, 57]
    torch.testing.assert_close(table.lookup(torch.tensor(ids)), naive_rows(table, ids))
    table.cluster()
    torch.testing.assert_close(table.lookup(torch.tensor(ids)), naive_rows(table, ids))


def test_tables_of_a_model_have_pointers_of_their_own():
    configs = [TableConfig(n, 8) for n in (300, 70, 1000)]
    tables = TableCollection.build(configs, "cce", min_rows=1, dtype=torch.float64)
    assert len(tables.groups) == 1
    ids = torch.tensor([[0, 0, 0], [299, 69, 999], [7, 7, 7]])
    for _ in range(2):
        out = tables(ids)
        for t, table in enumerate(tables.tables):
            torch.testing.assert_close(out[:, t], naive_rows(table, ids[:, t].tolist()))
            torch.testing.assert_close(table.lookup(ids[:, t]), naive_rows(table, ids[:, t].tolist()))
        bags = tables([(ids[:, t], torch.tensor([0, 2])) for t in range(3)])
        torch.testing.assert_close(bags[0], out[:2].sum(0))
        tables.tables[1].cluster()  # shows in the group's call


def test_rows_start_with_a_full_tables_variance():
    assert float(create("cce:k=1000", 3000, 32, generator=seeded()).to_dense().var()) == pytest.approx(
        1 / 9000, rel=0.06
    )


# --- clustering -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("residual", ["true", "false"])
def test_a_table_of_few_rows_is_found_again(residual):
    """Six clusters in each chunk: k-means finds them, hashed rows have nothing to add."""
    weight = near_groups()
    table, error = CCE.from_dense(weight, k=12, hashed=5, residual=residual == "true", generator=seeded())
    assert error < 0.02
    assert torch.allclose(naive_rows(table, range(300)), table.to_dense())


def test_pointers_point_to_the_nearest_centre():
    weight = near_groups(noise=0.3)
    table, _ = CCE.from_dense(weight, k=7, hashed=5, generator=seeded())
    for part, chosen in enumerate(pointers(table).unbind(1)):
        centres = table.centres[part * 7 : part * 7 + 7].detach()
        nearest = torch.cdist(weight[:, part * 4 : part * 4 + 4], centres)
        torch.testing.assert_close(nearest.gather(1, chosen.unsqueeze(1)).squeeze(1), nearest.amin(1))


def test_residuals_lower_the_error_and_are_means():
    weight = near_groups(noise=0.3)
    zero, error = CCE.from_dense(weight, k=7, hashed=20, residual=False, generator=seeded())
    assert not zero.part_tables.any()
    kept, less = CCE.from_dense(weight, k=7, hashed=20, generator=seeded())
    assert less < 0.98 * error
    torch.testing.assert_close(kept.centres, zero.centres)
    # what a hashed row leaves of its ids has mean zero
    left = weight - kept.to_dense()
    constants = {name: kept.constants[name] for name in kept.constants}
    slots = kept.part_rows(torch.arange(300), constants)[:, 0]
    assert float(torch.zeros(20, 4, dtype=torch.float64).index_add_(0, slots, left[:, :4]).abs().max()) < 1e-9


def test_clustering_keeps_what_was_trained_as_far_as_it_can():
    """With as many centres as there are rows nothing is lost; with fewer, less than without any."""
    table = made("cce:k=300:hashed=4")
    before = table.to_dense()
    table.cluster()
    torch.testing.assert_close(table.to_dense(), before)
    table = made("cce:k=40:hashed=40")
    before = table.to_dense()
    table.cluster()
    assert float((table.to_dense() - before).norm() / before.norm()) < 0.7


def test_the_same_table_is_clustered_alike_and_hashes_are_new():
    alone, again = made(), made()
    for table in (alone, again):
        table.cluster()
        table.cluster()
    assert torch.equal(alone.to_dense(), again.to_dense())
    assert int(alone.course["clustered"]) == 2
    hashes = [made().constants["coefficients"], alone.constants["coefficients"]]
    assert not torch.equal(*hashes)


def test_clusterings_come_at_the_ends_of_the_first_epochs():
    def steps(spec, total, epochs):
        table = made(spec)
        begin_training(table, total, epochs)
        return [step for step in range(total) if table.maintain(step)]

    assert steps("cce", 40, 4) == [10, 20]
    assert steps("cce:clusterings=1", 40, 4) == [10]
    assert steps("cce:clusterings=3:every=0.5", 40, 4) == [5, 10, 15]
    assert steps("cce", 30, 1) == [10, 20]  # too short for two epochs and a rest
    assert steps("cce", 1, 1) == []
    assert steps("cce:clusterings=0", 40, 4) == []
    table = made()
    assert not any(table.maintain(step) for step in range(50))  # nobody said how long it will be


@pytest.mark.parametrize("sparse", [False, True])
def test_state_and_gradients_of_clustered_rows_start_anew_and_others_stay(sparse):
    configs = [TableConfig(300, 8), TableConfig(250, 8)]
    tables = TableCollection.build(configs, "cce:k=6:hashed=5", sparse=sparse, generator=seeded())
    optimizer = torch.optim.Adagrad(tables.parameters(), lr=0.1)
    ids = torch.arange(200).unsqueeze(1).expand(-1, 2)
    tables(ids).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    tables(ids).sum().backward()
    tables.tables[1].cluster()
    assert maintain(tables, optimizer) == 12 + 10
    for parameter in tables.parameters():
        half = len(parameter) // 2
        state, grad = optimizer.state[parameter]["sum"], parameter.grad.to_dense()
        assert (state[:half] > 0).any()
        assert grad[:half].any()
        assert not state[half:].any()
        assert not grad[half:].any()
    assert maintain(tables, optimizer) == 0


def test_training_goes_on_after_a_clustering_and_ends_nearer():
    """Rows that are few ones: pointers that are learned separate them, hashed ones do not."""
    weight = near_groups(n=600, groups=8).float()
    losses = {}
    for clusterings in (0, 4):
        table = create(f"cce:k=32:hashed=32:clusterings={clusterings}", 600, 8, generator=seeded())
        optimizer = torch.optim.Adagrad(table.parameters(), lr=0.3)
        begin_training(table, 300, 6)
        ids = torch.arange(600)
        for step in range(300):
            optimizer.zero_grad()
            loss = (table.lookup(ids) - weight).square().mean()
            loss.backward()
            maintain(table, optimizer, step=step)
            optimizer.step()
        losses[clusterings] = float(loss.detach())
    assert losses[4] < 0.8 * losses[0]


def test_what_cannot_be_clustered_stays_or_is_refused():
    table = made()
    with torch.no_grad():
        table.centres[0] = float("nan")
    before = pointers(table)
    table.cluster()
    assert torch.equal(pointers(table), before)
    assert not table.maintain()
    with pytest.raises(InputError, match="folded"):
        made().fold().cluster()
    halved = made()
    prune.identity(halved, "centres")
    with pytest.raises(InputError, match="parametrized"):
        begin_training(halved, 100, 2)
    frozen = made().requires_grad_(False)
    begin_training(frozen, 10, 1)
    assert not any(frozen.maintain() for _ in range(10))


# --- copies and bytes -------------------------------------------------------------------------------------------------


def clustered_table(seed=0):
    table = create("cce:k=6:hashed=5", 300, 8, generator=seeded(seed))
    table.cluster()
    return table


def clustered_collection(seed=0):
    configs = [TableConfig(300, 8), TableConfig(250, 8)]
    tables = TableCollection.build(configs, "cce:k=6:hashed=5", generator=seeded(seed))
    for table in tables.tables:
        table.cluster()
    return tables


@pytest.mark.parametrize("alone", [True, False])
def test_copies_hold_the_learned_pointers_and_go_on_by_themselves(alone):
    source, fresh = (clustered_table(seed) if alone else clustered_collection(seed) for seed in (0, 9))
    ids = torch.arange(250).unsqueeze(1).expand(-1, 1 if alone else 2)
    before = source(ids).detach()
    assert not torch.equal(fresh(ids), before)
    fresh.load_state_dict(copy.deepcopy(source.state_dict()))
    for twin in (fresh, copy.deepcopy(source), pickle.loads(pickle.dumps(source)), source.fold()):
        assert torch.equal(twin(ids), before)
    for twin in (fresh, copy.deepcopy(source), pickle.loads(pickle.dumps(source))):
        one = twin if alone else twin.tables[0]
        one.cluster()
        assert int(one.course["clustered"]) == 2  # the state dict says how often before
        rows = one.lookup(ids[:, 0]).detach()
        assert torch.equal(rows, (twin(ids) if alone else twin(ids)[:, 0]).detach())
        assert not torch.equal(rows, before if alone else before[:, 0])
    assert torch.equal(source(ids).detach(), before)


def test_a_reset_starts_from_hashes_again():
    table, fresh = made(), made()
    table.cluster()
    table.reset_parameters(seeded())
    assert torch.equal(pointers(table), pointers(fresh))
    assert torch.equal(table.constants["coefficients"], fresh.constants["coefficients"])


@pytest.mark.parametrize(("k", "bits"), [(6, 3), (8, 3), (9, 4), (1, 0)])
def test_pointers_are_counted_packed_and_served_so(k, bits):
    table = create(f"cce:k={k}:hashed=5", 1000, 8)
    words = 8 * -(-(1000 * 2 * bits + 32) // 64)
    want = 4 * 8 * (k + 5) + 8 * (5 * 2 + 1) + words
    assert table.ledger().serving_bytes == want
    assert table.fold().pointers["words"].nbytes == words
    assert {"pointers": words}.items() <= {entry.name: entry.bytes for entry in table.ledger().serving}.items()
    assert table.ledger().training_bytes == want + 4 * 8 * (k + 5) + 8 * (4 * 4 + 1)  # gradients, and the course


def test_a_table_that_leaves_its_group_keeps_its_own_pointers_only():
    table = clustered_collection().tables[1].fold()
    assert table.pointers["words"].untyped_storage().nbytes() == table.pointers["words"].nbytes


@pytest.mark.parametrize("ratio", [2, 8, 16, 100])
@pytest.mark.parametrize("parts", [1, 2, 4])
def test_a_budget_is_filled_and_no_bit_of_a_pointer_is_idle(ratio, parts):
    table = create(f"cce:parts={parts}:ratio={ratio}", 50_000, 16)
    full = 4 * 50_000 * 16
    assert full / ratio - 64 <= table.ledger().serving_bytes <= full / ratio
    assert table.k & (table.k - 1) == 0
    assert table.pointers["words"].nbytes <= full / ratio / 2
    assert table.hashed >= table.k


def test_a_number_of_centres_may_be_given_beside_a_ratio():
    table = create("cce:k=100:ratio=8", 5000, 16)
    assert table.k == 100
    assert 40_000 - 64 <= table.ledger().serving_bytes <= 40_000
    with pytest.raises(BudgetError):
        create("cce:k=5000:ratio=2", 5000, 16)


def test_a_table_from_a_trained_one_keeps_a_budget():
    weight = torch.randn(3000, 8, generator=seeded())
    table, error = CCE.from_dense(weight, ratio=6, generator=seeded())
    assert table.ledger().serving_bytes <= 3000 * 32 / 6
    assert float((table.to_dense() - weight).norm() / weight.norm()) == pytest.approx(error, rel=1e-5)
    with pytest.raises(InputError, match="not both"):
        CCE.from_dense(weight, ratio=6, budget=5000)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("cce:k=0", "k=0"),
        ("cce:hashed=0", "hashed=0"),
        ("cce:parts=3", "3 parts"),
        ("cce:clusterings=-1", "clusterings=-1"),
        ("cce:every=0", "every=0"),
    ],
)
def test_bad_knobs_are_named(spec, says):
    with pytest.raises(InputError, match=says):
        create(spec, 100, 8)
