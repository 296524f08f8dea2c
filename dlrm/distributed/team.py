"""The processes that train each run together: who they are, what rank 0 asks of the others, who is lost."""

from __future__ import annotations

import datetime
import json
import os
import pickle
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import torch
from torch.distributed import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from embpress.compressors import InputError
from embpress.dlrm.distributed.patience import GRACE, LOOK, timeout
from embpress.dlrm.distributed.place import Place
from embpress.dlrm.distributed.process_group import process_group
from embpress.dlrm.processes import host, no_process
from embpress.kernels.errors import EmbpressError

_END = b"end"
STOPPED = "stopped"  # why a process has left a training, and ends, where it was told to by a signal


class Lost(EmbpressError):
    """A process of the team has gone, so that no run can be trained any more; says which."""


class Member(NamedTuple):
    """A rank that is ready.

    Attributes:
        process: its number on its machine, `host`.
        problem: why it cannot take part; empty where it can.
        data: the fingerprint of its data.
    """

    process: int
    host: str
    problem: str
    data: str

    @property
    def gone(self) -> bool:
        """Whether it is known to have ended, as is told of processes of this machine alone."""
        return self.host == host() and no_process(self.process)


class Team:
    """Processes that are started together; rank 0 leads, the others do what it asks.

    They speak through torch's store, which torchrun keeps. A process group is there only while a model is trained: what
    rank 0 does by itself besides, it does as a process on its own.

    Attributes:
        place: of this process.
        members: by rank, of those that are known.
        lost: who has gone, in a sentence; None while all are there.
    """

    def __init__(self, place: Place, store: Store | None = None) -> None:
        self.place, self.patience = place, timeout()
        self.members: dict[int, Member] = {}
        self.lost: str | None = None
        self.rounds = 0  # trainings that rank 0 has asked for
        if store is None:
            found, _, _ = next(rendezvous("env://", timeout=datetime.timedelta(seconds=self.patience)))
            store = PrefixStore(f"embpress/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", found)
        self.store = store

    # --- who is there -------------------------------------------------------------------------------------------------

    def report(self, data: str = "", problem: str = "") -> None:
        """Says that this process is ready, or why it is not."""
        self._set(f"ready/{self.place.rank}", json.dumps(Member(os.getpid(), host(), problem, data)).encode())

    def gather(self) -> None:
        """Waits until all are ready.

        Raises:
            InputError: one is not, or has other data; the message names it.
        """
        end = time.monotonic() + self.patience
        for rank in range(self.place.world):
            while (said := self._get(f"ready/{rank}")) is None:
                if time.monotonic() > end:
                    raise InputError(f"the process of rank {rank} was not ready within {self.patience:g} seconds")
                time.sleep(LOOK)
            self.members[rank] = Member(*json.loads(said))
        own = self.members[self.place.rank]
        for rank, member in self.members.items():
            if member.problem:
                raise InputError(f"the process of rank {rank} cannot take part: {member.problem}")
            if member.data != own.data:
                raise InputError(f"the process of rank {rank} has other data: are its files the same?")

    # --- what is asked ------------------------------------------------------------------------------------------------

    def ask(self, order: Any) -> None:
        """Rank 0 tells the others what is trained next.

        Raises:
            Lost: one of them has gone.
        """
        if self.lost is not None:
            raise Lost(self.lost)
        self.rounds += 1
        self._set(f"order/{self.rounds}", pickle.dumps(order))

    def orders(self) -> Iterator[Any]:
        """What rank 0 asks for, until it says that there is no more, or has gone."""
        if self.place.rank not in self.members:
            self.gather()
        while not self.members[0].gone:
            said = self._get(f"order/{self.rounds + 1}")
            if said is None:
                time.sleep(LOOK)
                continue
            self.rounds += 1
            if said == _END:
                self._set(f"bye/{self.place.rank}", b"")
                return
            yield pickle.loads(said)  # of a process of the same command

    def end(self) -> None:
        """Rank 0 says that there is no more; where it keeps the store it stays until the others know."""
        with suppress(RuntimeError):
            self._set(f"order/{self.rounds + 1}", _END)
            until = time.monotonic() + GRACE
            for rank in range(1, self.place.world):
                while self._get(f"bye/{rank}") is None and time.monotonic() < until and self.lost is None:
                    if rank in self.members and self.members[rank].gone:
                        break
                    time.sleep(LOOK)

    # --- training together --------------------------------------------------------------------------------------------

    def meet(self) -> None:
        """Waits until all have built what is to be trained.

        Raises:
            RuntimeError: one of them could not, or has gone; `why` tells.
        """
        self._set(f"met/{self.rounds}/{self.place.rank}", b"")
        end = time.monotonic() + self.patience
        for rank in range(self.place.world):
            while self._get(f"met/{self.rounds}/{rank}") is None:
                if self._said(rank) is not None or self.members[rank].gone or time.monotonic() > end:
                    raise RuntimeError(f"rank {rank} has left the training")
                time.sleep(LOOK)

    @contextmanager
    def group(self, device: torch.device) -> Iterator[None]:
        """A process group of all, while something is trained: see `process_group`."""
        store = PrefixStore(f"group/{self.rounds}", self.store)
        with process_group(device, self.place, store, self.patience):
            yield

    def left(self, reason: str) -> None:
        """Says why this process has left the training: "" for what another did, `STOPPED` where it ends."""
        with suppress(RuntimeError):
            self._set(f"left/{self.rounds}/{self.place.rank}", reason.encode())

    def why(self) -> str:
        """Why a training came to no end, once this process has left it: by whom, in a sentence; sets `lost`."""
        causes: dict[int, str] = {}
        gone: list[int] = []
        until = time.monotonic() + GRACE
        for rank in range(self.place.world):
            while (said := self._said(rank)) is None and time.monotonic() < until and not self.members[rank].gone:
                time.sleep(LOOK)
            said = self._said(rank) if said is None else said  # the last thing that it did
            if said is None:
                gone.append(rank)
            elif said:
                causes[rank] = said
        if not gone and causes.get(self.place.rank) != STOPPED:  # those that are stopped with this one are not to blame
            gone = [rank for rank, cause in causes.items() if cause == STOPPED]
        if gone:
            self.lost = "; ".join(self._lost(rank, causes.get(rank)) for rank in gone)
            return self.lost
        return "; ".join(f"on rank {rank}: {cause}" for rank, cause in causes.items())

    @property
    def survivor(self) -> bool:
        """Whether this process is the first of those that are left, after `why`."""
        return all(self._said(rank) is None for rank in range(self.place.rank))

    def _lost(self, rank: int, cause: str | None) -> str:
        member = self.members[rank]
        who = f"the process of rank {rank} (process {member.process} on {member.host})"
        if cause == STOPPED:
            return f"{who} was stopped"
        return f"{who} died" if member.gone else f"{who} gave no answer"

    def _said(self, rank: int) -> str | None:
        said = self._get(f"left/{self.rounds}/{rank}")
        return None if said is None else said.decode()

    # --- the store ----------------------------------------------------------------------------------------------------

    def _set(self, key: str, value: bytes) -> None:
        self.store.set(key, value.hex() + ".")  # a store's get waits for what is empty

    def _get(self, key: str) -> bytes | None:
        """What is there; None where nothing is yet. A store that is gone raises RuntimeError."""
        if not self.store.check([key]):
            return None
        return bytes.fromhex(self.store.get(key).decode().removesuffix("."))


def device_of(asked: str, place: Place) -> str:
    """The device of a process: `cuda` is the GPU of its local rank; GPUs are shared where there are too few.

    Raises:
        InputError: one GPU is asked for by its number.
    """
    if ":" in asked:
        raise InputError(f"--device {asked} is one GPU, each of several processes takes its own: give --device cuda")
    if asked == "cpu":
        return asked
    index = place.local_rank % max(1, torch.cuda.device_count())
    return f"{asked}:{index}" if index else asked
