"""What ops find wrong reaches Python as one exception with fields, whoever answers."""

import pickle

import pytest
import torch

from embpress.kernels import ops, reference
from embpress.kernels.errors import ArgumentError, EmbpressError, IdOutOfRange, OffsetsError, decoded

ROWS = (12, 5)
CORES = [torch.randn(shape) for n in ROWS for shape in ((n, 1, 2, 3), (1, 3, 2, 1))]


def lookup(ids, offsets=None):
    return ops.tt_embedding_bag(CORES, ids, offsets, num_embeddings=ROWS, num_cores=2)


def plain_lookup(ids, offsets=None):
    return reference.tt_embedding_bag(CORES, [], ids, offsets, None, list(ROWS), [], 2, False, True)


@pytest.mark.parametrize("call", [lookup, plain_lookup])
def test_an_id_out_of_range_says_which_of_which_table(call):
    with pytest.raises(IndexError) as caught:
        call(torch.tensor([[11, 4], [0, 7]]))
    error = caught.value
    assert isinstance(error, IdOutOfRange)
    assert (error.id, error.table, error.rows) == (7, 1, 5)
    assert str(error) == "id 7 is out of range: table 1 has 5 rows, 0 to 4"
    assert str(error.of("shops")) == "id 7 is out of range: shops has 5 rows, 0 to 4"
    assert str(error.of(None)) == "id 7 is out of range: the table has 5 rows, 0 to 4"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize("call", [lookup, plain_lookup])
@pytest.mark.parametrize(
    ("offsets", "sentence"),
    [
        ([1, 1, 2], "offsets must start at 0, got 1"),
        ([0, 1, 5], "the last offset must be the input's length 2, got 5"),
        ([0, 3, 2], "offsets must not decrease"),
    ],
)
def test_offsets_that_make_no_bags(call, offsets, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        call(torch.tensor([0, 1]), torch.tensor(offsets))
    assert isinstance(caught.value, OffsetsError)
    assert isinstance(caught.value, EmbpressError)
    assert str(caught.value) == sentence


def test_what_is_wrong_can_be_read_where_nobody_translates_it():
    """As in a compiled graph, which calls the op itself."""
    with pytest.raises(
        (RuntimeError, IndexError), match=r"id out of range \(id=7 table=1 rows=5\)|id 7 is out of range"
    ):
        torch.ops.embpress.tt_embedding_bag.default(
            CORES, [], torch.tensor([[11, 7]]), None, None, ROWS, [], 2, False, True
        )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("forward, /home/me/kernels/cpu/tt/call.h:12, tt_embedding_bag: core 1 is empty", "core 1 is empty"),
        ("longs, /x/kernels/common/id_arguments.h:7, ids must be int64", "ids must be int64"),
    ],
)
def test_a_refusal_loses_its_place_in_the_sources(text, sentence):
    error = decoded(RuntimeError(text))
    assert isinstance(error, ArgumentError)
    assert str(error) == sentence


@pytest.mark.parametrize(
    "text",
    [
        "out of memory",
        "embpress: who knows (id=1)",
        "check, /x/kernels/cuda/common/device.h:9, embpress: launch: no memory",
        "Expected embpress: cores",
    ],
)
def test_other_errors_stay_what_they_are(text):
    error = RuntimeError(text)
    assert decoded(error) is error
