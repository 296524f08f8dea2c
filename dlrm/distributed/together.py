"""One training by all processes of a team: what rank 0 asks for, what each does, how it ends where one fails."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch.distributed as dist

from embpress.compressors import InputError, MethodSpec
from embpress.compressors.shardable import Shardable, shardable
from embpress.dlrm.data import ClickData
from embpress.dlrm.distributed.process_group import of_one
from embpress.dlrm.distributed.saved import SharedSaved
from embpress.dlrm.distributed.stopping import End, Stopped, not_any_more, told_of_end
from embpress.dlrm.distributed.team import STOPPED, Team
from embpress.dlrm.distributed.work import SharedWork
from embpress.dlrm.models.base import ClickModel
from embpress.dlrm.training.course import Best, Saved, Trained
from embpress.dlrm.training.loop import Progress, RunFailed, fit
from embpress.dlrm.training.settings import Settings
from embpress.kernels.errors import said_by

_OF_OTHERS = re.compile(r"gloo|nccl|connection|timed out|left the training", re.IGNORECASE)
_LEADS: list[Team] = []  # the team that this process leads


class Training(NamedTuple):
    """What rank 0 asks for; with the data it decides everything."""

    spec: MethodSpec
    settings: Settings
    seed: int


@contextmanager
def lead(team: Team) -> Iterator[Team]:
    """Runs that ask for several processes are trained by this team, until the block ends."""
    _LEADS.append(team)
    try:
        yield team
    finally:
        _LEADS.remove(team)
        team.end()


def lost() -> str | None:
    """Who has gone from a team that this process leads, in a sentence; None while all are there."""
    return next((team.lost for team in _LEADS if team.lost is not None), None)


def train(
    asked: Training,
    model: ClickModel,
    data: ClickData,
    progress: Progress | None = None,
    best: Best | None = None,
    saved: Saved | None = None,
) -> Trained:
    """`click_model.train` by the team that this process leads; the metrics have `wire_bytes_per_step` besides.

    Raises:
        InputError: tables that update themselves and cannot be divided, or no team of as many processes as the settings
            say.
        RunFailed: as in one process; or one of the processes failed, or died, and the message says which and why.
        Lost: one has died before.
    """
    settings = asked.settings
    team = next((team for team in _LEADS if team.place.world == settings.processes), None)
    if team is None:
        raise InputError(f"processes={settings.processes}, but this process leads no team of as many")
    shardable(model.tables.groups)  # where a modifier is in the way
    others = [group for group in model.tables.groups if not isinstance(group, Shardable)]
    fused = next((table.spec_name for group in others for table in group.tables if table.tags.fused_update), None)
    if fused is not None:
        raise InputError(
            f"{fused} updates its tables in the backward, in each process by its own rows alone: it cannot run in "
            f"{settings.processes} processes; use full"
        )
    team.ask(asked)
    return take_part(team, model, data, settings, asked.seed, progress, best, saved)


def train_alone(
    model: ClickModel,
    data: ClickData,
    settings: Settings,
    seed: int,
    progress: Progress | None = None,
    best: Best | None = None,
) -> Trained:
    """`click_model.train` by this process alone, as it takes part in that of several: for tables that are divided."""
    model.train()
    with of_one(model.device):
        return _fitted(model, data, settings, seed, progress, best, None)


def take_part(
    team: Team,
    model: ClickModel,
    data: ClickData,
    settings: Settings,
    seed: int,
    progress: Progress | None = None,
    best: Best | None = None,
    saved: Saved | None = None,
) -> Trained:
    """This process's part of a training, and what it gives: see `train`."""
    model.train()
    with told_of_end() as end:
        try:
            team.meet()
            with team.group(model.device):
                made = _fitted(model, data, settings, seed, progress, best, saved)
        except (Exception, Stopped) as error:
            end.held = True  # until it is known who has gone: a launcher sends it once it sees that
            raise _failed(team, error, end) from error
        team.left("")
    return made


def _fitted(
    model: ClickModel,
    data: ClickData,
    settings: Settings,
    seed: int,
    progress: Progress | None,
    best: Best | None,
    saved: Saved | None,
) -> Trained:
    with SharedWork(model, data, settings, seed) as work:
        # what is divided is not kept in the middle: it would have to be put together for it, and divided again
        made = fit(work, settings.epochs, progress, best, SharedSaved(None if work.divided else saved, work))
        if work.world > 1:
            made.metrics["wire_bytes_per_step"] = work.sent() / max(1, work.steps * settings.epochs)
    return made


def _failed(team: Team, error: BaseException, end: End) -> BaseException:
    """What to raise where this process's part has come to an end by an error, or because it was stopped."""
    own = STOPPED if end.came else "" if _of_others(error) else said_by(error)
    team.left(own)
    why = team.why()
    if end.came or team.lost is not None:
        not_any_more()
    if team.lost is not None:
        return RunFailed(team.lost)
    if end.came:
        return error if isinstance(error, Stopped) else Stopped("stopped")
    return error if own else RunFailed(why or said_by(error))


def _of_others(error: BaseException) -> bool:
    """Whether an error is what a process sees where another has left."""
    if isinstance(error, dist.DistError):
        return True
    return type(error) is RuntimeError and _OF_OTHERS.search(str(error)) is not None
