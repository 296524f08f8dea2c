"""The comparison in a model of one's own: a two-tower model and an MLP, records, pairing, and what is left out."""

import numpy as np
import pytest
import shop
import torch
from torch import nn

from embpress.compressors import InputError, create
from embpress.dlrm import compare_models
from embpress.dlrm.runs.store import labels_path, read_all
from embpress.dlrm.training.settings import OPTIMIZERS
from embpress.reports import load, write_report

QUICK = {"min_rows": 10, "learning_rate": 0.05, "latency_seconds": 0.0}


@pytest.fixture(scope="module")
def two_tower(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    methods = "full,hash,tt:rank=2:cache_rows=20:warmup=5,robe:ratio=8+bf16,hash:ratio=1e6"
    runs = compare_models(**shop.task(name="shop"), methods=methods, ratio=4, folder=folder, seeds=2, epochs=2, **QUICK)
    return folder, runs


def metrics(runs):
    return {run.id: run.metrics for run in runs}


def test_every_method_is_a_run_of_the_same_schema(two_tower):
    folder, runs = two_tower
    assert metrics(read_all(folder)) == metrics(runs)
    assert [run.status for run in runs] == [*["ok"] * 4, "cannot reach"] * 2
    assert {run.name for run in runs if run.is_full} == {"full"}
    assert all(table.is_full for run in runs if run.is_full for table in run.tables)
    frame = load(folder)
    assert list(frame["data"].unique()) == ["shop"]
    text = write_report(folder, runs).read_text()
    for words in (
        "1,440 train, 160 valid, 400 test",
        "2 categorical\n",
        "the last tenth of the rest",
        "95 % over seeds and rows",
    ):
        assert words in text
    assert "numeric" not in text
    assert "Row 0" not in text
    assert "Lookups are timed" in text


def test_numbers_mean_what_they_always_mean(two_tower):
    folder, runs = two_tower
    labels = shop.samples()[2][1600:].numpy() > 0
    np.testing.assert_array_equal(np.load(labels_path(folder, runs[0].data.fingerprint)), labels)
    full_bytes = 4 * 8 * (shop.USERS + shop.ITEMS)
    for run in (run for run in runs if run.ok):
        p, m = np.load(folder / "records" / f"{run.id}.npy").astype(float), run.metrics
        over = (p[labels][:, None] > p[~labels]).mean() + 0.5 * (p[labels][:, None] == p[~labels]).mean()
        assert m["auc"] == pytest.approx(over, abs=1e-4)
        loss = -np.log(np.where(labels, p, 1 - p)).mean()
        assert m["log_loss"] == pytest.approx(loss, abs=1e-4)
        assert m["full_bytes"] == full_bytes == sum(table.full_bytes for table in run.tables)
        assert m["ratio"] == full_bytes / m["serving_bytes"]
        assert sum(table.serving_bytes for table in run.tables) == pytest.approx(m["serving_bytes"], abs=2)
        assert m["step_ms"] > 0 < m["peak_memory_bytes"]
        assert m["lookup_p50_us_b128"] > 0 < m["fold_seconds"]
        assert not [name for name in m if name.startswith(("model_", "inference_"))]  # not measured, so not there
        assert run.learning_curve[-1].step == 2 * 23  # 1,440 samples in batches of 64
        assert ("auc_trained" in m) == (len(run.served) == 2) == bool(run.modifiers)  # bf16, where any
    full, hashed = runs[:2]
    assert full.metrics["serving_bytes"] == full_bytes
    assert 4 <= hashed.metrics["ratio"] < 4.1
    tables = [create("full", n, 8) for n in (shop.USERS, shop.ITEMS)]
    ids = (64, 3 * 64)  # a user and three words for each sample of a batch
    want = sum(table.ledger("adagrad", n).training_bytes for table, n in zip(tables, ids))
    assert full.metrics["training_bytes"] == want
    by_method = {run.method: run for run in runs if run.seed == 1}
    assert all(run.latency_of_seed == 0 for run in by_method.values() if run.ok)


def test_seeds_are_paired_whatever_the_loader_and_the_model_draw(tmp_path):
    seen: dict[tuple[str, int], list] = {}

    def loss(model, batch):
        users, _, labels = batch
        if "dense" not in now:
            now["dense"] = [p.detach().clone() for p in model.towers.parameters()]
        now.setdefault("users", []).append(users)
        logits = model(*batch[:2]).squeeze(1)
        return nn.functional.binary_cross_entropy_with_logits(logits, labels)

    def model_fn():
        now.clear()
        return shop.TwoTower()

    now: dict[str, list] = {}
    own = shop.task(model_fn, loss=loss)
    own["train_loader"].generator = own["train_loader"].sampler.generator = torch.Generator().manual_seed(5)
    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    for method in ("full", "hash:k=9", "robe:size=99"):
        for seed in (0, 1):
            (run,) = compare_models(**own, methods=method, seeds=[seed], folder=tmp_path, epochs=2, **QUICK)
            assert run.ok, run.reason
            assert run.training["loss"].endswith("loss")
            seen[method, seed] = [*now["dense"], torch.cat(now["users"])[: 2 * 1440]]
    for seed in (0, 1):
        for method in ("hash:k=9", "robe:size=99"):
            assert all(map(torch.equal, seen["full", seed], seen[method, seed]))
    assert not any(map(torch.equal, seen["full", 0], seen["full", 1]))
    first, second = seen["full", 0][-1].split(1440)
    assert not torch.equal(first, second)
    assert torch.equal(first.sort()[0], second.sort()[0])
    assert torch.equal(first.sort()[0], shop.samples()[0][:1440].sort()[0])  # validation is never trained on
    assert torch.equal(torch.get_rng_state(), state[0])
    assert np.array_equal(np.random.get_state()[1], state[1])


def test_what_is_there_is_not_run_again_and_another_model_does_not_join(two_tower):
    folder, runs = two_tower
    made = []

    def model_fn():
        made.append(1)
        return shop.TwoTower()

    own = {"ratio": 4, "folder": folder, "epochs": 2, **QUICK}
    again = compare_models(**shop.task(model_fn, name="shop"), methods="full,hash", seeds=2, **own)
    assert len(made) == 1  # to try it on a batch
    assert metrics(again) == metrics(run for run in runs if run.method in ("full", "hash"))
    with pytest.raises(InputError, match="another dense parameters"):
        compare_models(**shop.task(lambda: shop.TwoTower(4), name="shop"), methods="full", **own)
    with pytest.raises(InputError, match="another loss"):
        compare_models(**shop.task(name="shop", loss=lambda model, batch: None), methods="full", **own)
    other = shop.task(name="shop", valid_loader=shop.task()["test_loader"])
    with pytest.raises(InputError, match="on other data"):
        compare_models(**other, methods="full", **own)


def test_an_mlp_that_takes_names_and_lists_of_batches(tmp_path):
    """Tables of two widths have no lookup of all at once; one that no call looks up has no training bytes."""
    users, words, labels = shop.samples()
    batches = [
        ({"user": users[i : i + 100], "day": words[i : i + 100, 0] % 7}, labels[i : i + 100, None])
        for i in range(0, 2000, 100)
    ]

    class Functional(shop.Plain):
        def forward(self, user, day):
            day = nn.functional.one_hot(day, 7).float() @ self.day.weight
            return self.mlp(torch.cat([self.user(user), day], 1))

    for model_fn, counted in ((shop.Plain, True), (Functional, False)):
        folder = tmp_path / model_fn.__name__
        runs = compare_models(
            model_fn, batches[:15], batches[15:], "full,qr:c=4", name="mlp", folder=folder, min_rows=200, largest=1
        )
        full, qr = runs
        assert full.ok, full.reason
        assert qr.ok, qr.reason
        assert qr.data.rows == {"train": 1400, "valid": 100, "test": 500}
        assert [table.method for table in qr.tables] == ["qr", "full"]
        assert qr.metrics["train_samples_per_s"] > 0
        assert ("training_bytes" in qr.metrics) == counted
        assert not [name for name in qr.metrics if name.startswith(("lookup_", "fold_"))]
        assert "qr" in write_report(folder, runs).read_text()


def test_a_method_that_fails_is_a_row_and_the_others_go_on(tmp_path):
    def loss(model, batch):
        if model.user.table.spec_name == "hash":
            raise KeyError("only of hash")
        return nn.functional.binary_cross_entropy_with_logits(model(*batch[:2]).squeeze(1), batch[2])

    runs = compare_models(**shop.task(loss=loss), methods=["hash:k=9", "full"], folder=tmp_path, **QUICK)
    assert [(run.status, run.reason) for run in runs] == [("failed", "'only of hash'"), ("ok", None)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_plain_table_with_sparse_gradients_trains_with_every_optimizer(optimizer, tmp_path):
    class Sparse(shop.TwoTower):
        def __init__(self):
            super().__init__()
            self.user = nn.Embedding(shop.USERS, 8, sparse=True)
            self.item.eval()  # a part that is frozen stays so

        def forward(self, users, words):
            assert not self.item.training
            return super().forward(users, words)

    options = {**QUICK, "min_rows": 401, "optimizer": optimizer, "learning_rate": 0.01}
    (run,) = compare_models(**shop.task(Sparse), methods="hash:k=40", folder=tmp_path, **options)
    assert run.ok, run.reason
    assert [table.method for table in run.tables] == ["full", "full"]


def one_label(task):
    users, words, _ = shop.samples(100)
    return {**task, "test_loader": [(users, words, torch.ones(100))]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (one_label, "one label alone"),
        (lambda task: {**task, "score": lambda model, batch: (model(*batch[:2])[:, 0], batch[2] + 3)}, "0 or 1, got"),
    ],
)
def test_labels_that_no_auc_is_of(change, words, tmp_path):
    (run,) = compare_models(**change(shop.task()), methods="full", folder=tmp_path, **QUICK)
    assert run.status == "failed"
    assert words in run.reason


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train_loader": iter([])}, "no last tenth can be cut off"),
        ({"train_loader": [], "valid_loader": []}, "gives no batch"),
        ({"train_loader": [torch.ones(3)] * 9}, "a batch must be"),
        ({"train_loader": [(torch.ones(3), torch.ones(3))] * 9}, "does not take the first batch.*TypeError"),
        ({"model_fn": lambda: nn.Linear(3, 1), "score": lambda m, b: (b[2], b[2])}, "no nn.Embedding"),
        ({"model_fn": lambda: nn.Embedding(3, 2), "score": lambda m, b: (b[2], b[2])}, None),
        ({"methods": "full,full"}, "the same method twice"),
        ({"methods": []}, "each once"),
        ({"optimizer": "adagrd"}, "did you mean 'adagrad'"),
        ({"spread": 3}, "no option 'spread'"),
    ],
)
def test_what_is_refused(change, words, tmp_path):
    given = {**shop.task(), "methods": "full", "folder": tmp_path / "run", **change}
    if words is None:  # the model is itself a table: no method can replace it
        (run,) = compare_models(**given)
        assert "create()" in run.reason
        return
    with pytest.raises(InputError, match=words):
        compare_models(**given)
    assert not (tmp_path / "run").exists()


def test_seeds_are_added_until_differences_are_known(tmp_path):
    task, options = shop.task(name="shop"), {"ratio": 4, "epochs": 1, **QUICK}
    with pytest.raises(InputError, match=r"seeds auto adds seeds .* no full"):
        compare_models(**task, methods="hash", folder=tmp_path, seeds="auto:0.002", **options)
    with pytest.raises(InputError, match="seeds is a number of seeds or auto:"):
        compare_models(**task, methods="full,hash", folder=tmp_path, seeds="many", **options)
    runs = compare_models(**task, methods="full,hash", folder=tmp_path, seeds="auto:0.9", **options)
    assert [(run.name, run.seed) for run in runs] == [(name, seed) for seed in range(3) for name in ("full", "hash")]
