"""`embpress compare --processes`: each run is trained by several processes together, of this command or of torchrun."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from embpress.cli.numbers import Whole
from embpress.dlrm.distributed.place import Place

if TYPE_CHECKING:
    from embpress.dlrm.data import ClickData
    from embpress.dlrm.distributed.team import Team
    from embpress.dlrm.training.settings import Settings

_PER_CORE = 4  # processes that are started for each core at most: more only wait for each other, and each takes memory

PROCESSES = click.option(
    "--processes",
    type=Whole(1),
    metavar="N",
    help="Train each run by N processes of this machine, each on its share of every batch, with --threads each; on "
    "GPUs each takes one. torchrun -m embpress.cli.main does the same, on several machines too. [default: 1]",
)


def place_of(options: dict[str, Any], refused: str) -> Place:
    """Which process this is; a command that asks for others starts them, waits for them and ends here.

    Sets the processes among the options to how many there are, and their threads where nobody says how many.

    Args:
        refused: an option that does not go with several processes; empty where none is given.

    Raises:
        InputError: such an option, more processes than these cores can serve, or another number than torchrun has
            started.
    """
    from embpress.compressors.errors import InputError
    from embpress.compressors.guard import whole
    from embpress.dlrm.executors.local import cores

    asked, place = options["processes"], Place.here()
    if refused and max(asked or 1, place.world) > 1:
        raise InputError(f"{refused} does not go with several processes that train one model")
    if place.world > 1 and asked not in (None, place.world):
        raise InputError(f"--processes {asked}, but torchrun has started {place.world}: leave the option out")
    if place.world == 1 and asked is not None and asked > 1:
        _start(whole(asked, "--processes", 1, _PER_CORE * cores()))
    options["processes"] = place.world
    if place.world > 1 and options["threads"] is None and "OMP_NUM_THREADS" not in os.environ:
        options["threads"] = max(1, cores() // place.local_world)
    return place


def _start(processes: int) -> None:
    """Starts the processes of this command, and ends as they end."""
    from embpress.dlrm.distributed.launch import launch

    words = click.get_current_context().obj
    status, said = launch(["-u", "-m", "embpress.cli.main", *words], processes, {})
    if said:
        click.echo(f"Error: {said}; runs that ended are saved, the same command goes on from there", err=True)
    raise click.exceptions.Exit(status)


@contextmanager
def leading(settings: Settings, data: ClickData) -> Iterator[Team | None]:
    """Rank 0's team, once all are ready, for as long as runs are made; None where runs are trained by one process.

    Raises:
        InputError: one of the others cannot take part.
    """
    if settings.processes == 1:
        yield None
        return
    from embpress.dlrm.distributed.team import Team, device_of
    from embpress.dlrm.distributed.together import lead

    device_of(settings.device, Place.here())
    team = Team(Place.here())
    team.report(data.fingerprint)
    team.gather()
    with lead(team):
        yield team


def end_where_lost(team: Team | None, folder: Path) -> None:
    """Ends the command where a process has died: without it nothing can be trained."""
    if team is not None and team.lost is not None:
        raise _Lost(f"{team.lost}: runs that ended are saved in {folder}; the same command goes on from there")


class _Lost(click.ClickException):
    """No mistake of the user's; torchrun starts all processes again where it may."""

    exit_code = 1


def take_part(place: Place, options: dict[str, Any], out: str | None) -> None:
    """What the process of another rank does instead of the command: it trains along, and says nothing.

    What is wrong with the options or the data rank 0 finds as well, and says.
    """
    import torch

    from embpress.cli.data_cache import load_with_cache
    from embpress.cli.options import command_line, run_folder, set_threads, settings_of
    from embpress.dlrm.distributed.follow import follow
    from embpress.dlrm.distributed.team import Lost, Team, device_of
    from embpress.dlrm.measure.device import make_current
    from embpress.kernels.errors import EmbpressError

    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 # until this process ends
    team = Team(place)
    try:
        set_threads(options.pop("threads"))
        cache = options.pop("cache")
        data, _ = load_with_cache(options, cache, lambda line: None)
        settings = settings_of(len(data.train) + len(data.valid) + len(data.test), options)
        if torch.device(settings.device).type == "cuda":
            make_current(device_of(settings.device, place))
        folder = None if settings.tune else run_folder(out, data, settings)  # a trial's record has another place
    except EmbpressError as error:
        team.report(problem=str(error))
        return
    team.report(data.fingerprint)
    try:
        follow(team, data, folder, command_line())
    except (Lost, EmbpressError, RuntimeError, KeyboardInterrupt):  # a store that is gone is a RuntimeError
        raise click.exceptions.Exit(1) from None
