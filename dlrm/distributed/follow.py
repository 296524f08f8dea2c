"""What a process that does not lead its team does: it takes part in each training that rank 0 asks for."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from embpress.compressors import InputError
from embpress.dlrm.data import ClickData
from embpress.dlrm.distributed.team import Lost, Team, device_of
from embpress.dlrm.distributed.together import Training, take_part
from embpress.dlrm.runs.experiment import build_model, build_tables, describe_run
from embpress.dlrm.runs.store import save
from embpress.dlrm.training.loop import RunFailed
from embpress.dlrm.training.state import CannotResume

_FAILURES = (MemoryError, RuntimeError, RunFailed, CannotResume, InputError)  # of one training, not of the process


def follow(team: Team, data: ClickData, folder: Path | None, command: str) -> None:
    """Takes part until rank 0 says that there is no more to do.

    Args:
        folder: the run folder, where this process writes that a run has failed if rank 0 dies and it is the first that
            is left; None where it is not to.
        command: as in records.

    Raises:
        Lost: a process has died.
    """
    for asked in team.orders():
        _train(team, data, asked)
        if team.lost is not None:
            if folder is not None and team.survivor:
                about = describe_run(data, asked.spec, asked.settings, asked.seed, command)
                save(folder, replace(about, reason=team.lost))
            raise Lost(team.lost)


def _train(team: Team, data: ClickData, asked: Training) -> None:
    """One training; what is wrong with it is told to rank 0, whose run it is."""
    settings = replace(asked.settings, device=device_of(asked.settings.device, team.place))
    try:
        tables = build_tables(data, asked.spec, settings, asked.seed)
        model = build_model(data, tables, settings, asked.seed)
    except _FAILURES as error:
        team.left(str(error) or type(error).__name__)
        return
    with suppress(*_FAILURES):  # it has told why
        take_part(team, model, data, settings, asked.seed)
