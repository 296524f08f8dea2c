"""The user's loaders: one order of the samples for every method, a validation part, a fingerprint."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, SequentialSampler, Subset

from embpress.compressors import InputError
from embpress.dlrm.data.base import moved

# what a loader of a part of the same data takes over
_KEPT = (
    *("num_workers", "collate_fn", "pin_memory", "timeout", "worker_init_fn", "multiprocessing_context", "generator"),
    *("prefetch_factor", "persistent_workers"),
)


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Gives the random numbers of Python, NumPy and torch back as they were."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def seed_all(seed: int) -> None:
    """Seeds Python, NumPy and torch on all devices."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def reseed(loader: Any, seed: int, epoch: int = 0) -> None:
    """Lets a loader's next epoch depend on seed and epoch alone, whatever was drawn before."""
    number = seed * 1_000_003 + epoch
    seed_all(number)
    sampler: Any = getattr(loader, "sampler", None)
    for generator in (getattr(loader, "generator", None), getattr(sampler, "generator", None)):
        if isinstance(generator, torch.Generator):
            generator.manual_seed(number)
    set_epoch = getattr(sampler, "set_epoch", None)
    if callable(set_epoch):
        set_epoch(number)


def to_device(batch: Any, device: torch.device | str) -> Any:
    """A batch with all its tensors on a device; other objects go there by a `to` of their own."""
    if isinstance(batch, Tensor):
        return moved(batch, device)
    if hasattr(batch, "to"):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(to_device(value, device) for value in batch))
    if isinstance(batch, (tuple, list)):
        return type(batch)(to_device(value, device) for value in batch)
    return batch


def without_last_tenth(loader: Any) -> tuple[Any, Any]:
    """The training loader without the last tenth of its samples (of a list: of its batches), and that tenth in order.

    Raises:
        InputError: a loader whose order nobody knows.
    """
    if isinstance(loader, (list, tuple)) and len(loader) > 1:
        cut = len(loader) - max(1, len(loader) // 10)
        return loader[:cut], loader[cut:]
    known = isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset)
    sampler = loader.sampler if known else None
    shuffled = type(sampler) is RandomSampler and not sampler.replacement and sampler.num_samples == len(loader.dataset)
    plain = known and type(loader.batch_sampler) in (BatchSampler, type(None))
    if not plain or not (shuffled or type(sampler) is SequentialSampler):
        raise InputError(
            "no last tenth can be cut off this train_loader, for its order is its own: give a valid_loader (a "
            "DataLoader of a data set with a length, or a list of batches, needs none)"
        )
    n, kept = len(loader.dataset), {name: getattr(loader, name) for name in _KEPT}
    cut = n - max(1, n // 10)
    size = {"batch_size": loader.batch_size}
    batched = {} if loader.batch_size is None else {"drop_last": loader.drop_last}
    return (
        DataLoader(Subset(loader.dataset, range(cut)), shuffle=shuffled, **size, **batched, **kept),
        DataLoader(Subset(loader.dataset, range(cut, n)), **size, **kept),
    )


def steps_of(loader: Any) -> int:
    """Batches of an epoch; 0 where a loader does not know."""
    with suppress(TypeError, NotImplementedError):
        return len(loader)
    return 0


def rows_of(loader: Any, samples: Callable[[Any], int]) -> int:
    """Samples of an epoch; 0 where nobody knows. `samples` tells them of a batch."""
    if isinstance(loader, (list, tuple)):
        return sum(map(samples, loader))
    if not isinstance(loader, DataLoader) or loader.batch_size is None or isinstance(loader.dataset, IterableDataset):
        return 0
    return len(loader) * loader.batch_size if loader.drop_last else len(loader.sampler)  # type: ignore[arg-type]


def fingerprint_of(train: Iterable[Any], *others: Iterable[Any]) -> str:
    """16 hexadecimal digits of all batches of some loaders, and of the first one of `train`."""
    digest = hashlib.sha256()
    for loader in (train, *others):
        reseed(loader, 0)
        for batch in loader:
            _feed(digest, batch)
            if loader is train:
                break
    return digest.hexdigest()[:16]


def _feed(digest: Any, value: Any, depth: int = 0) -> None:
    if isinstance(value, np.ndarray) and value.dtype != object:
        value = torch.from_numpy(np.ascontiguousarray(value)) if value.dtype.kind in "biuf" else value.tolist()
    if isinstance(value, Tensor):
        digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    elif isinstance(value, Mapping):
        for key, item in value.items():
            digest.update(repr(key).encode())
            _feed(digest, item, depth)
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        digest.update(str(len(value)).encode())
        for item in value:
            _feed(digest, item, depth)
    elif hasattr(value, "__dict__") and depth < 5:  # an object that holds tensors
        _feed(digest, vars(value), depth + 1)
    else:
        digest.update(repr(value).encode() if isinstance(value, (str, bytes, int, float)) else b"?")
