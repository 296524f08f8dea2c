"""Hugging Face's transformers: tied models, their Trainer, and a compressed model made again from its config."""

import re

import pytest
import torch
from paths import ROOT

transformers = pytest.importorskip("transformers")

from safetensors.torch import load_file  # noqa: E402
from transformers import (  # noqa: E402
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
    TrainingArguments,
)

from embpress.compressors import InputError, compress_model  # noqa: E402
from embpress.compressors.tables.conversion.modules import CompressedLinear  # noqa: E402

SIZES = {"vocab_size": 3000, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
IDS = torch.randint(3, 3000, (64, 12), generator=torch.Generator().manual_seed(0))
METHODS = ["hash", "qr", "tt", "robe", "robe+bf16"]


def recipe():
    """The class that compressors/README.md shows."""
    text = (ROOT / "compressors" / "README.md").read_text()
    block = re.search(r"```python\n([^`]*class CompressedGPT2.*?)\n\n\nmodel = ", text, re.DOTALL).group(1)
    names = {"__name__": __name__}
    exec(block, names)
    return names["CompressedGPT2"]


CompressedGPT2 = recipe()


def small(method):
    compressed = {"method": method, "ratio": 8}
    return GPT2Config(n_embd=32, n_layer=1, n_head=2, n_positions=64, compressed=compressed, **SIZES)


def same(one, other):
    with torch.no_grad():
        return torch.equal(one.eval()(input_ids=IDS).logits, other.eval()(input_ids=IDS).logits)


@pytest.mark.parametrize("method", METHODS)
def test_what_was_saved_comes_back_from_its_config(method, tmp_path):
    model = CompressedGPT2(small(method))
    assert isinstance(model.lm_head, CompressedLinear)
    assert model.num_parameters() < 3000 * 32
    model.save_pretrained(tmp_path)
    assert not [name for name in load_file(tmp_path / "model.safetensors") if name.startswith("lm_head")]
    again, info = CompressedGPT2.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    assert again.config.compressed == {"method": method, "ratio": 8}
    assert same(model, again)
    assert again.generate(IDS[:2], attention_mask=torch.ones_like(IDS[:2]), max_new_tokens=3).shape == (2, 15)


def test_its_trainer_trains_saves_and_resumes(tmp_path):
    data = [{"input_ids": row, "labels": row} for row in IDS]
    arguments = {"output_dir": str(tmp_path), "use_cpu": True, "report_to": [], "learning_rate": 1e-2, "save_steps": 10}
    arguments |= {"logging_steps": 1, "disable_tqdm": True, "per_device_train_batch_size": 8}
    torch.manual_seed(0)
    trainer = Trainer(CompressedGPT2(small("hash")), TrainingArguments(max_steps=20, **arguments), train_dataset=data)
    before = trainer.model.transformer.wte.table.to_dense().clone()
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0]
    assert not torch.equal(trainer.model.transformer.wte.table.to_dense(), before)
    assert same(trainer.model, CompressedGPT2.from_pretrained(tmp_path / "checkpoint-20"))
    more = Trainer(CompressedGPT2(small("hash")), TrainingArguments(max_steps=22, **arguments), train_dataset=data)
    more.train(resume_from_checkpoint=str(tmp_path / "checkpoint-20"))
    assert more.state.global_step == 22


def converted(model, **options):
    done = compress_model(model, "hash", ratio=4, generator=torch.Generator().manual_seed(0), **options)
    model.eval()(input_ids=IDS[:2], labels=IDS[:2]).loss.backward()
    return done


def test_t5_has_one_table_for_encoder_decoder_and_head(tmp_path):
    config = T5Config(d_model=32, d_kv=16, d_ff=64, num_layers=1, num_heads=2, decoder_start_token_id=0, **SIZES)
    model = T5ForConditionalGeneration(config)
    done = converted(model)
    assert done.attrs["ratio"] >= 4
    assert model.encoder.embed_tokens.table is model.shared.table is model.lm_head.table
    assert len([name for name, _ in model.named_parameters() if "table" in name]) == 1
    model.save_pretrained(tmp_path)


def test_bert_keeps_the_bias_of_its_head(tmp_path):
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    model = BertForMaskedLM(BertConfig(vocab_size=3000, **sizes))
    converted(model)
    head = model.cls.predictions.decoder
    assert isinstance(head, CompressedLinear)
    assert head.bias is model.cls.predictions.bias
    assert head.bias.grad is not None
    model.save_pretrained(tmp_path)


def test_barts_scaled_embedding_stays_and_is_said():
    sizes = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2}
    sizes |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
    model = BartForConditionalGeneration(BartConfig(**sizes, **SIZES, scale_embedding=True))
    with torch.no_grad():
        before = model.eval()(input_ids=IDS[:2], decoder_input_ids=IDS[:2]).logits
    with pytest.raises(InputError, match=r"model\.shared \(BartScaledWordEmbedding"):
        compress_model(model, "hash", ratio=4)
    with torch.no_grad():
        assert torch.equal(model(input_ids=IDS[:2], decoder_input_ids=IDS[:2]).logits, before)
