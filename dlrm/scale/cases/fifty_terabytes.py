"""A model of 50 TB on 128 GPUs, which 10000x sharing names as what compression would do away with."""

from embpress.dlrm.scale.answer import Answer
from embpress.dlrm.scale.case import Case, Claim


def _fewest(one: Answer) -> str:
    return "too large for one, if copied" if one.fewest is None else f"{one.fewest:,} at least"


CASE = Case(
    title="A model of 50 TB",
    options="--tables 50TB --tables-number 200 --dim 128 --batch 65536 --machines 128xA100-40GB "
    "--network infiniband-hdr --methods robe:z=32:ratio=1000,robe:z=32:ratio=10000",
    source="Desai and Shrivastava, 10000x parameter sharing, sections 1 and 4, on Mudigere et al. 2021",
    claims=(
        Claim("GPUs of the full model", "128", lambda answers: _fewest(answers[0])),
        Claim("GPUs of the model made 1000 times smaller", "a single GPU or node", lambda answers: _fewest(answers[1])),
        Claim(
            "GPUs of the model made 10000 times smaller", "a single GPU or node", lambda answers: _fewest(answers[2])
        ),
    ),
    note="The paper gives the size and the number of GPUs alone; 200 tables of width 128, 65,536 samples a step, SGD, "
    "A100 GPUs of 40 GB and 200 Gb/s for each are assumed. 128 such GPUs hold a tenth of 50 TB: the rest has to lie "
    "in the memory or on the disks of their hosts, or in fewer bits, which the calculator does not look at. An "
    "array of 50 GB, 1000 times smaller, does not fit in one such GPU with its gradient: copied to every GPU it "
    "cannot be trained data-parallel, however many there are. At 10000 times it can, and its all-reduce of 5 GB is "
    "then what takes longest by far: a step of the full model, sharded over as many GPUs as it needs, is fifty "
    "times shorter, and 1000 times smaller tables would have to be sharded as well.",
)
