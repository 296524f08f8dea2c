"""deepctr-torch: its models train, save and load with compressed tables."""

import numpy as np
import pytest
import torch

deepctr = pytest.importorskip("deepctr_torch")

from deepctr_torch.inputs import DenseFeat, SparseFeat, VarLenSparseFeat, get_feature_names  # noqa: E402
from deepctr_torch.models import DCN, DeepFM, xDeepFM  # noqa: E402

from embpress.compressors import compress_model  # noqa: E402

COLUMNS = [
    SparseFeat("user", 3000, embedding_dim=8),
    SparseFeat("item", 2000, embedding_dim=8),
    VarLenSparseFeat(SparseFeat("genres", 400, embedding_dim=8), maxlen=4, combiner="mean"),
    DenseFeat("price", 1),
]


def inputs(rows=640):
    draw = np.random.default_rng(0)
    data = {"user": draw.integers(0, 60, rows), "item": draw.integers(0, 2000, rows)}
    data |= {"genres": draw.integers(0, 400, (rows, 4)), "price": draw.random((rows, 1))}
    order = {name: data[name] for name in get_feature_names(COLUMNS)}
    return order, (data["user"] % 2).astype(np.float32)


def made(kind, method, **options):
    model = kind(COLUMNS, COLUMNS, dnn_hidden_units=(16,), l2_reg_embedding=0, l2_reg_linear=0, device="cpu", **options)
    done = compress_model(model, method, ratio=4)
    assert done.attrs["ratio"] >= 4
    # of width 1, the linear part's: compressed where the method can
    assert (done["embedding_dim"] == 1).any()
    return model


@pytest.mark.parametrize("kind", [DeepFM, DCN, xDeepFM])
@pytest.mark.parametrize("method", ["hash", "robe", "tt"])
def test_twenty_steps_a_save_and_a_load(kind, method, tmp_path):
    torch.manual_seed(0)
    model = made(kind, method)
    data, labels = inputs()
    model.compile(torch.optim.Adam(model.parameters(), lr=0.02), "binary_crossentropy")
    history = model.fit(data, labels, batch_size=64, epochs=2, verbose=0)  # 20 steps
    losses = history.history["loss"]
    assert losses[-1] < losses[0]
    torch.save(model.state_dict(), tmp_path / "model.pt")
    again = made(kind, method)
    again.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    again.compile("adam", "binary_crossentropy")
    assert np.array_equal(again.predict(data, 64), model.predict(data, 64))


def test_its_list_of_weights_to_regularize_is_told_of():
    """It is made with the model, so it holds the weights that were replaced."""
    model = DeepFM(COLUMNS, COLUMNS, dnn_hidden_units=(16,), l2_reg_embedding=0.1, device="cpu")
    compress_model(model, "hash")
    model.compile(torch.optim.Adam(model.parameters(), lr=0.02), "binary_crossentropy")
    data, labels = inputs()
    with pytest.warns(UserWarning, match="replaced still takes part in a loss"):
        model.fit(data, labels, batch_size=64, epochs=1, verbose=0)
