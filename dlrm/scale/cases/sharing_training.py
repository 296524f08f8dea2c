"""Figure 2b and Table 4 of 10000x sharing: 1000 iterations of training, full tables against shared arrays."""

from collections.abc import Callable

from embpress.dlrm.scale.case import Answers, Case, Claim
from embpress.dlrm.scale.step import Step


def _both(step: Step) -> str:
    return f"{1e3 * step.at_least:.2f} to {1e3 * step.at_most:.2f} s"


def _time(number: int) -> Callable[[Answers], str]:
    return lambda answers: _both(answers[number].on(1))


def _faster(number: int) -> Callable[[Answers], str]:
    return lambda answers: f"{answers[0].on(8).at_most / answers[number].on(1).at_most:.2f}"


PAPER = {100: 31.04, 1000: 29.6, 10000: 11.6}
FULL = 50.6

CASE = Case(
    title="A training step on 8 GPUs with full tables, on one with shared arrays",
    options="--rows criteo-terabyte --dim 128 --batch 2048 --machines 8xrtx8000 --network pcie3 "
    f"--methods {','.join(f'robe:z=32:ratio={ratio}' for ratio in PAPER)}",
    source="Desai and Shrivastava, 10000x parameter sharing, section 4 and Table 4 (seconds of 1000 iterations)",
    claims=(
        Claim("full tables on 8 GPUs", f"{FULL} s", lambda answers: _both(answers[0].on(8))),
        *(Claim(f"{ratio}x on one GPU", f"{paper} s", _time(at)) for at, (ratio, paper) in enumerate(PAPER.items(), 1)),
        *(
            Claim(f"full / {ratio}x", f"{FULL / paper:.2f}", _faster(at))
            for at, (ratio, paper) in enumerate(PAPER.items(), 1)
        ),
    ),
    note="The paper trains the full tables on 4 or 8 GPUs, does not say how they are linked, and says of sparse "
    "gradients that their time is the same whatever the ratio; PCIe 3.0 x16, 8 GPUs and dense gradients are "
    "assumed. The measured times are three to thirty times what memory, network and arithmetic take one after the "
    "other, most so on eight GPUs: they are those of the program and of starting its kernels. That a smaller "
    "array takes less time is the calculator's result too, as its dense gradient is smaller to clear and to "
    "apply. That one GPU beats eight is not: at peak rates its step takes longer, the more so the larger the "
    "array, and at 10000x because one GPU computes all of the MLPs.",
)
