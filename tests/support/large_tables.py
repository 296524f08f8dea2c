"""What shows that a table is read in slices and never copied whole."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Watched:
    """An array that only gives slices, and remembers how many rows they had."""

    def __init__(self, array):
        self.array, self.shape, self.largest, self.read = array, array.shape, 0, 0

    def __getitem__(self, part):
        rows = self.array[part]
        self.largest, self.read = max(self.largest, len(rows)), self.read + len(rows)
        return rows


class Largest(TorchDispatchMode):
    """While it is entered: the most elements of a tensor that an op returned."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(value, torch.Tensor):
                self.numel = max(self.numel, value.numel())
        return out
