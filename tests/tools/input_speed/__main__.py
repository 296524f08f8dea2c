"""Times the batches of a training alone, and training steps on prepared data against steps on the same data in memory.

    python tests/tools/input_speed --rows 2000000 --folder /tmp/prepare_speed

The file is made as `prepare_speed` makes it, and prepared; the model is that of `--preset kaggle` with full tables and
batches of 2048. All is of one process: the ways take steps in turn, and ratios are medians over the steps, each
against memory's of the same turn. `--cold` measures batches alone of a folder that the system's cache does not hold.
"""

import argparse
import os
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "prepare_speed"))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40, help="training steps of a repeat")
    parser.add_argument(
        "--window", type=int, default=200_000, help="rows of a window, where samples are mixed by windows"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path("prepare_speed"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    folder = prepared(options)
    if options.cold:
        show_cold(folder, options)
        return
    works = {name: work(data, window) for name, (data, window) in ways(folder, options).items()}
    alone, steps = ({name: [] for name in works} for _ in range(2))
    ratios = {name: [] for name in works}
    for _ in range(options.repeats):
        for name, one in works.items():
            alone[name].append(input_speed(one))
        found = paired_steps(works, options.steps)
        for name, seconds in found.items():
            steps[name] += seconds
            ratios[name] += [own / memory for own, memory in zip(seconds, found["memory"])]
    for name in works:
        rows, second = statistics.median(alone[name]), statistics.median(steps[name])
        print(
            f"{name}: {rows:,.0f} rows/s of batches alone; a step with its batch {1e3 * second:.2f} ms, "
            f"{2048 / second:,.0f} rows/s, {statistics.median(ratios[name]):.3f} times memory's; "
            f"input {rows * second / 2048:.0f} times as fast as steps"
        )


def prepared(options):
    """The prepared folder, made where it is not there."""
    import made

    from embpress.dlrm.data.prepare.manifest import is_prepared
    from embpress.dlrm.data.prepare.prepare import prepare

    path, folder = options.folder / f"criteo-{options.rows}.txt", options.folder / f"input-{options.rows}"
    if not is_prepared(folder):
        options.folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            made.write(path, options.rows)
        prepare([path], folder, format="criteo")
    return folder


def ways(folder, options):
    """Data and window of each way: mapped or copied into memory, all rows mixed or by windows."""
    from embpress.dlrm.data import load

    mapped = load(folder)
    train = mapped.train
    copied = replace(train, labels=train.labels.clone(), dense=train.dense.clone(), ids=train.ids.clone())
    return {
        "memory": (replace(mapped, train=copied), None),
        "disk": (mapped, None),
        "disk by windows": (mapped, options.window),
    }


def work(data, window):
    """What training does with the model of the Kaggle preset."""
    from embpress.compressors import parse
    from embpress.dlrm.runs.experiment import build_model, build_tables
    from embpress.dlrm.training.click_model import ClickWork
    from embpress.dlrm.training.settings import resolve

    settings = resolve(len(data.train), preset="kaggle", batch_size=2048, shuffle_window=window)
    return ClickWork(build_model(data, build_tables(data, parse("full"), settings, 0), settings, 0), data, settings, 0)


def input_speed(one):
    """Rows a second of an epoch's batches, nothing done with them."""
    start = time.perf_counter()
    rows = sum(size for _, size in one.batches(0))
    return rows / (time.perf_counter() - start)


def paired_steps(works, count):
    """The seconds of each way's steps, the batch included; the ways take steps in turn, another first each time.

    What comes before the first batch, the order and the first piece, is not counted.
    """
    batches, seconds = {name: one.batches(0) for name, one in works.items()}, {name: [] for name in works}
    for name in works:
        next(batches[name])
    for number in range(count):
        names = list(works)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            start = time.perf_counter()
            batch, _ = next(batches[name])
            works[name].step(batch, number)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def show_cold(folder, options):
    """Batches alone, each epoch of a folder that is opened anew and read from the disk."""
    for name, window in (("all rows mixed", None), ("by windows", options.window)):
        found = [cold_speed(folder, window) for _ in range(options.repeats)]
        print(f"cold, {name}: {statistics.median(found):,.0f} rows/s of batches alone")


def cold_speed(folder, window):
    """Rows a second of an epoch in pieces of as many rows as training takes."""
    from embpress.dlrm.data import load
    from embpress.dlrm.data.ahead import ahead
    from embpress.dlrm.training.click_model import GATHERED
    from embpress.dlrm.training.order import drawn

    for path in folder.rglob("*.npy"):  # which nobody has mapped now
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    train = load(folder).train
    start = time.perf_counter()
    order = drawn(len(train), window, torch.Generator().manual_seed(0))
    rows = sum(len(batch) for piece in ahead(order.pieces(train, GATHERED)) for batch in piece.split(2048))
    return rows / (time.perf_counter() - start)


main()
