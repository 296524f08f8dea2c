"""Lightning: a converted model in its Trainer, a checkpoint, and the model made again from it."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

lightning = pytest.importorskip("lightning")

from embpress.compressors import compress_model, optimizer_groups  # noqa: E402


class Clicks(lightning.LightningModule):
    """Two tables and a layer; converted where it is made, so that a checkpoint fits."""

    def __init__(self, method):
        super().__init__()
        self.save_hyperparameters()
        self.user, self.items = nn.Embedding(3000, 8), nn.EmbeddingBag(5000, 8, mode="sum")
        self.top = nn.Linear(16, 1)
        compress_model(self, method, ratio=8)
        self.losses = []

    def forward(self, user, items):
        return self.top(torch.cat([self.user(user), self.items(items)], dim=1)).squeeze(1)

    def training_step(self, batch, _):
        user, items, label = batch
        loss = nn.functional.binary_cross_entropy_with_logits(self(user, items), label)
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(optimizer_groups(self), lr=0.05)


@pytest.mark.parametrize("method", ["hash", "robe", "tt", "qr"])
def test_twenty_steps_a_checkpoint_and_a_load(method, tmp_path):
    torch.manual_seed(0)
    user = torch.randint(40, (640,))
    data = TensorDataset(user, torch.randint(5000, (640, 3)), (user % 2).float())
    model = Clicks(method)
    trainer = lightning.Trainer(
        max_steps=20, accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path
    )
    trainer.fit(model, DataLoader(data, batch_size=64, shuffle=True))
    assert len(model.losses) == 20
    assert model.losses[-1] < 0.7 * model.losses[0]
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    again = Clicks.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    with torch.no_grad():
        assert torch.equal(again.eval()(*data[:64][:2]), model.eval()(*data[:64][:2]))
