"""TorchRec: collections of tables, jagged in and keyed out, in its own model, replicated, refused where quantized."""

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn

torchrec = pytest.importorskip("torchrec")

from torchrec.distributed.model_parallel import DistributedModelParallel  # noqa: E402
from torchrec.inference.modules import quantize_embeddings  # noqa: E402
from torchrec.models.dlrm import DLRM  # noqa: E402
from torchrec.modules.embedding_configs import EmbeddingBagConfig, EmbeddingConfig, PoolingType  # noqa: E402
from torchrec.modules.embedding_modules import EmbeddingBagCollection, EmbeddingCollection  # noqa: E402
from torchrec.modules.feature_processor_ import PositionWeightedModuleCollection  # noqa: E402
from torchrec.modules.fp_embedding_modules import FeatureProcessedEmbeddingBagCollection  # noqa: E402
from torchrec.quant.embedding_modules import EmbeddingCollection as Quantized  # noqa: E402
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor  # noqa: E402

from embpress.compressors import InputError, compress_model, create  # noqa: E402

METHODS = ["hash", "qr", "tt", "robe", "hash+bf16"]


def bags(weighted=False):
    kinds = (PoolingType.SUM, PoolingType.SUM if weighted else PoolingType.MEAN)
    shapes = [("t1", 500, 8, ["f1", "f3"]), ("t2", 300, 4, ["f2", "f1"])]
    tables = [
        EmbeddingBagConfig(name=name, num_embeddings=n, embedding_dim=dim, feature_names=own, pooling=kind)
        for (name, n, dim, own), kind in zip(shapes, kinds)
    ]
    return EmbeddingBagCollection(tables=tables, is_weighted=weighted)


def rows():
    tables = [EmbeddingConfig(name="t3", embedding_dim=8, num_embeddings=500, feature_names=["f1", "f2"])]
    return EmbeddingCollection(tables=[*tables, EmbeddingConfig(name="t4", embedding_dim=8, num_embeddings=400)])


def features(weighted=False, keys=("f1", "f2", "f3", "t4")):
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(4, (len(keys) * 5,), generator=generator)
    values = torch.randint(300, (int(lengths.sum()),), generator=generator)
    weights = torch.rand(len(values), generator=generator) if weighted else None
    return KeyedJaggedTensor(keys=list(keys), values=values, lengths=lengths, weights=weights)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_bags_are_those_of_torchrec_on_the_rows_written_out(method, weighted):
    plain = bags(weighted)
    model = copy.deepcopy(plain)
    done = compress_model(model, method, ratio=3)
    assert done.attrs["ratio"] >= 3
    with torch.no_grad():
        for name, table in model.embedding_bags.items():
            plain.embedding_bags[name].weight.copy_(table.to_dense())
    got, want = model(features(weighted)), plain(features(weighted))
    assert got.keys() == want.keys() == ["f1@t1", "f3", "f2", "f1@t2"]
    assert got.length_per_key() == want.length_per_key()
    torch.testing.assert_close(got.values(), want.values())
    got.values().sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert [table.name for table in model.embedding_bag_configs()] == ["t1", "t2"]
    assert model.is_weighted() == weighted
    again = copy.deepcopy(model)
    again.reset_parameters()
    assert not torch.equal(again(features(weighted)).values(), got.values())
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(features(weighted)).values(), got.values())


@pytest.mark.parametrize("method", METHODS)
def test_rows_are_those_of_torchrec_on_the_rows_written_out(method):
    plain = rows()
    model = copy.deepcopy(plain)
    compress_model(model, method, ratio=3)
    with torch.no_grad():
        for name, module in model.embeddings.items():
            plain.embeddings[name].weight.copy_(module.table.to_dense())
    got, want = model(features()), plain(features())
    assert got.keys() == want.keys() == {"f1", "f2", "t4"}
    for name in want:
        torch.testing.assert_close(got[name].values(), want[name].values())
        assert torch.equal(got[name].lengths(), want[name].lengths())


def test_a_dlrm_trains_saves_and_loads(tmp_path):
    def made():
        torch.manual_seed(0)
        tables = [EmbeddingBagConfig(name=n, embedding_dim=8, num_embeddings=3000) for n in ("a", "b")]
        model = DLRM(EmbeddingBagCollection(tables=tables), 3, [16, 8], [16, 1])
        compress_model(model, "hash", ratio=8)
        return model

    model, sparse, dense = made(), features(keys=("a", "b")), torch.rand(5, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(model(dense, sparse).squeeze(1), torch.arange(5) % 2.0)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    torch.save(model.state_dict(), tmp_path / "model.pt")
    again = made()
    again.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    assert torch.equal(again(dense, sparse), model(dense, sparse))


class Both(nn.Module):
    """A compressed collection beside a plain one."""

    def __init__(self, plain=True):
        super().__init__()
        torch.manual_seed(dist.get_rank())  # ranks start differently
        self.small = bags()
        compress_model(self, "hash", ratio=3)
        tables = [EmbeddingBagConfig(name="p", embedding_dim=8, num_embeddings=500, feature_names=["f1"])]
        self.plain = EmbeddingBagCollection(tables=tables) if plain else None

    def forward(self, kjt):
        return self.small(kjt).values().sum(1) + (self.plain(kjt).values().sum(1) if self.plain else 0)


def trained(rank):
    for plain in (True, False):
        model = DistributedModelParallel(Both(plain), device=torch.device("cpu"))
        assert type(model.module.small).__name__ == "CompressedEmbeddingBagCollection"
        assert not plain or "Sharded" in type(model.module.plain).__name__
        own = [p for name, p in model.named_parameters() if "small" in name]
        optimizer = torch.optim.SGD(own, lr=0.1)
        kjt = features(keys=("f1", "f2", "f3") if rank else ("f3", "f2", "f1"))  # each rank has its own batch
        for _ in range(3):
            optimizer.zero_grad()
            model(kjt).square().sum().backward()
            optimizer.step()
        mine = torch.cat([p.detach().flatten() for p in own])
        theirs = [torch.empty_like(mine) for _ in range(2)]
        dist.all_gather(theirs, mine)
        assert torch.equal(*theirs)  # one state, and gradients of both


def test_in_model_parallel_it_is_replicated(ranks):
    ranks(trained)


@pytest.mark.parametrize("method", ["hash", "tt:rank=2", "robe:z=4", "mlet"])
def test_model_parallel_draws_tables_of_the_meta_device(method, tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        tables = [EmbeddingBagConfig(name="t", embedding_dim=8, num_embeddings=500, feature_names=["f1"])]
        model = nn.ModuleDict({"small": EmbeddingBagCollection(tables=tables, device=torch.device("meta"))})
        compress_model(model, method)
        model = DistributedModelParallel(model, device=torch.device("cpu"))
    finally:
        dist.destroy_process_group()
    drawn = model.module["small"].embedding_bags["t"].to_dense()
    assert 0.5 < drawn.std() / create(method, 500, 8).to_dense().std() < 2


def test_quantization_refuses_it_by_name():
    model = nn.ModuleDict({"small": bags(), "top": nn.Linear(3, 3)})
    compress_model(model, "hash")
    with pytest.raises(InputError, match="EmbeddingBagCollection holds compressed tables"):
        quantize_embeddings(model, torch.qint8, inplace=False)
    model = nn.ModuleDict({"small": rows()})
    compress_model(model, "hash")
    with pytest.raises(InputError, match="EmbeddingCollection holds compressed tables"):
        quantize_embeddings(model, torch.qint8, False, [EmbeddingCollection], {EmbeddingCollection: Quantized})


def test_other_layers_beside_it_are_quantized():
    model = nn.ModuleDict({"small": bags(), "top": nn.Linear(3, 3)})
    compress_model(model, "hash")
    quantized = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, torch.qint8)
    assert type(quantized["top"]) is not nn.Linear
    assert torch.equal(quantized["small"](features()).values(), model["small"](features()).values())


def test_collections_inside_what_reads_their_weights_stay():
    processor = PositionWeightedModuleCollection({"f1": 10, "f2": 10, "f3": 10})
    model = nn.ModuleDict(
        {"fp": FeatureProcessedEmbeddingBagCollection(bags(weighted=True), processor), "free": bags()}
    )
    done = compress_model(model, "hash")
    assert type(model["fp"]._embedding_bag_collection) is EmbeddingBagCollection
    assert "FeatureProcessedEmbeddingBagCollection" in done["note"][0]
    assert type(model["free"]) is not EmbeddingBagCollection
