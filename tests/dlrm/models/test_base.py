"""The door for click models: a file that is added trains, and its records say what it is."""

import json
import sys

import pytest
import torch
from click.testing import CliRunner

import embpress.dlrm.models
from embpress.cli.main import main
from embpress.compressors import InputError, TableCollection, TableConfig
from embpress.dlrm.measure import latency
from embpress.dlrm.models.base import model_class
from embpress.dlrm.training import evaluate, presets
from embpress.dlrm.training.model import build, describe
from embpress.dlrm.training.settings import resolve

SUMS = '''
"""Logistic regression on the sum of the rows."""
import torch
from torch import nn
from embpress.dlrm.models.base import ClickModel
from embpress.dlrm.option import Option

class Sums(ClickModel):
    name = "sums"
    options = (
        Option("spread", float, "standard deviation of the initial weights.", default=0.5, presets={"kaggle": 0.25}),
        Option("top", tuple, "not used."),
    )

    def __init__(self, num_dense, tables, spread, top, generator=None, amp=False):
        super().__init__(num_dense, tables, amp)
        self.linear = nn.Linear(num_dense + tables.embedding_dim, 1)
        with torch.no_grad():
            self.linear.weight.normal_(0, spread, generator=generator)
            self.linear.bias.zero_()

    def _score(self, dense, rows):
        return self.linear(torch.cat([dense, rows.sum(1)], 1)).squeeze(1)
'''


@pytest.fixture
def sums(tmp_path, monkeypatch):
    (tmp_path / "sums.py").write_text(SUMS)
    package = embpress.dlrm.models
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    # the command line learns the options when its modules load
    modules = [name for name in sys.modules if name.startswith("embpress.cli.") and name != "embpress.cli.main"]
    before = {name: sys.modules.pop(name) for name in modules}
    yield
    sys.modules.pop("embpress.dlrm.models.sums", None)
    sys.modules.update(before)


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def test_a_model_in_a_folder_trains_with_its_option_and_is_recorded(sums, tmp_path):
    small = ["--rows", "3000", "--scale", "0.001", "--threads", "1", "--out", tmp_path / "run"]
    done = call("compare", "--model", "sums", "--spread", "0.125", "--methods", "full,hash", "--ratio", "2", *small)
    assert done.exit_code == 0, done.output
    records = [json.loads(path.read_text()) for path in (tmp_path / "run" / "records").glob("*.json")]
    assert [record["status"] for record in records] == ["ok", "ok"]
    for record in records:
        assert (record["model"]["name"], record["model"]["spread"], record["model"]["top"]) == ("sums", 0.125, None)
        assert "bottom" not in record["model"]
    assert "spread 0.125" in (tmp_path / "run" / "report.md").read_text()
    other = call("train", "--model", "sums", *small)
    assert (other.exit_code, "with another spread (0.125 and 0.5)" in other.stderr) == (2, True)
    for model, option in (("dlrm", "--spread"), ("sums", "--bottom")):
        refused = call("train", "--model", model, option, "1", *small)
        assert f"model {model} has no option {option[2:]!r}; it belongs to" in refused.stderr


def test_its_option_is_in_the_help(sums):
    text = " ".join(call("train", "--help").stdout.split())
    assert "--model TEXT Click model: dlrm, sums; or MODULE:FUNCTION" in text
    assert "--spread FLOAT sums: standard deviation of the initial weights. [default: 0.5; kaggle: 0.25]" in text
    assert "128,64; kaggle: 512,256; terabyte: 1024,1024,512,256] sums: not used." in text


def test_an_option_whose_name_is_taken_is_refused(sums, tmp_path):
    (tmp_path / "sums.py").write_text(SUMS.replace('"spread"', '"seed"'))
    assert "embpress train has two options --seed" in call("train", "--help").stderr


def test_where_the_values_of_options_come_from(sums):
    assert resolve(9, model="sums").options == {"spread": 0.5, "top": None}
    assert resolve(9, model="sums", preset="kaggle").options == {"spread": 0.25, "top": (512, 256)}
    assert resolve(9, model="sums", preset="kaggle", spread="2", top="3,4").options == {"spread": 2.0, "top": (3, 4)}
    assert resolve(9, bottom=[5]).options == {"bottom": (5,), "top": (128, 64)}
    for mistake, words in (
        ({"top": "3,x"}, "top is 'x'"),
        ({"bottom": 3}, "list of whole"),
        ({"botom": 3}, "'bottom'"),
    ):
        with pytest.raises(InputError, match=words):
            resolve(9, **mistake)


def test_a_preset_in_a_folder_is_known(tmp_path, monkeypatch):
    (tmp_path / "wide.py").write_text('"""Wider."""\nVALUES = {"width": 40, "top": (7,), "of another model": 3}')
    monkeypatch.setattr(presets, "__path__", [*presets.__path__, str(tmp_path)])
    settings = resolve(9, preset="wide")
    assert (settings.width, settings.optimizer, settings.options["top"]) == (40, "adagrad", (7,))
    assert presets.about()["wide"] == "Wider"
    assert presets.default_text("width", 16) == "[default: 16; terabyte: 128; wide: 40]"
    sys.modules.pop("embpress.dlrm.training.presets.wide")


def test_what_it_answers(sums):
    tables = TableCollection.build([TableConfig(9, 4), TableConfig(5, 4)], min_rows=0)
    settings = resolve(100, model="sums", width=4)
    models = [build(3, tables, settings, seed) for seed in (1, 1, 2)]
    assert torch.equal(models[0].linear.weight, models[1].linear.weight)
    assert not torch.equal(models[0].linear.weight, models[2].linear.weight)
    assert models[0].dense_flops() == 2 * (3 + 4)
    dense, ids = torch.rand(2, 3), torch.tensor([[8, 4], [0, 1]])
    rows = torch.stack([t.to_dense()[i] for t, i in zip(tables.tables, ids.T)], 1)
    want = models[0].linear(torch.cat([dense, rows[:, 0] + rows[:, 1]], 1))[:, 0]
    torch.testing.assert_close(models[0](dense, ids), want)


def test_the_registered_one():
    settings = resolve(100, preset="kaggle")
    assert describe(settings) | {"min_rows": 0} == {
        "name": "dlrm", "preset": "kaggle", "width": 16, "bottom": [512, 256, 64], "top": [512, 256], "min_rows": 0,
        "largest": None,
    }  # fmt: skip
    tables = TableCollection.build([TableConfig(9, 16), TableConfig(5, 16)], min_rows=0)
    model = build(13, tables, settings, 0)
    widths = [(13, 512), (512, 256), (256, 64), (64, 16), (16 + 3, 512), (512, 256), (256, 1)]
    assert model.dense_flops() == sum(2 * a * b for a, b in widths)
    with pytest.raises(InputError, match="did you mean 'dlrm'"):
        model_class("dlr")


def test_evaluation_takes_batches_within_a_bound(monkeypatch):
    from embpress.dlrm.data import load

    data, sizes = load(rows=3000, scale=0.001), []
    settings = resolve(3000)
    tables = TableCollection.build([TableConfig(n, 16) for n in data.num_embeddings])
    model = build(data.train.dense.shape[1], tables, settings, 0)
    score = model.score
    monkeypatch.setattr(model, "score", lambda dense, rows: sizes.append(len(rows)) or score(dense, rows))
    whole = evaluate.predict(model, data.test)
    assert sizes == [len(data.test)]
    monkeypatch.setattr(evaluate, "SCORED_BYTES", 100 * model.sample_bytes() + 1)
    torch.testing.assert_close(evaluate.predict(model, data.test), whole)
    assert max(sizes[1:]) == 100
    monkeypatch.setattr(latency, "SCORED_BYTES", 200 * model.sample_bytes())
    measured = latency.measure(model, tables, data.train.dense.shape[1], 0.0)
    assert {"lookup_p50_us_b2048", "model_p50_us_b128"} <= set(measured)
    assert not {"model_p50_us_b2048", "inference_samples_per_s"} & set(measured)
    wide = TableCollection.build([TableConfig(3, 16) for _ in range(1000)])
    assert build(1, wide, settings, 0).sample_bytes() > 4 * 1001 * 1001  # the Gram matrix of all vectors
