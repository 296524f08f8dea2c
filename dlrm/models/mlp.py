"""Linear layers with ReLU between."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Generator, nn


def mlp(sizes: Sequence[int], generator: Generator | None, last_linear: bool) -> nn.Sequential:
    """Linear layers with ReLU between, initialised as DLRM's: weights N(0, 2 / (in + out)), biases N(0, 1 / out).

    Args:
        sizes: input width, hidden widths, output width.
        generator: source of the initial values.
        last_linear: no ReLU after the last layer.
    """
    layers: list[nn.Module] = []
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        linear = nn.Linear(fan_in, fan_out)
        with torch.no_grad():
            linear.weight.normal_(0, math.sqrt(2 / (fan_in + fan_out)), generator=generator)
            linear.bias.normal_(0, math.sqrt(1 / fan_out), generator=generator)
        layers.append(linear)
        if i < len(sizes) - 2 or not last_linear:
            layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)
