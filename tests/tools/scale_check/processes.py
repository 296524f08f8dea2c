"""Two processes in one gloo group: what their all-reduce and their training steps take."""

import multiprocessing
import os
import statistics
import tempfile
import time
import warnings

import torch
import torch.distributed as dist

WORLD = 2


def timed(jobs):
    """Median seconds of each job on two processes at once, as the slower process sees it.

    Args:
        jobs: names and arguments of functions of `JOBS`.
    """
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        started = [context.Process(target=_serve, args=(rank, folder, jobs, answers)) for rank in range(WORLD)]
        for process in started:
            process.start()
        try:
            found = [answers.get(timeout=300) for _ in started]
        finally:
            for process in started:
                process.join(10)
                process.kill()
    return [max(times) for times in zip(*found)]


def _serve(rank, folder, jobs, answers):
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="hash functions follow")  # all have the same seed
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=WORLD)
    times = []
    for name, arguments in jobs:
        call = JOBS[name](*arguments)
        call()
        taken = []
        for _ in range(arguments[0]):
            dist.barrier()
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
        times.append(statistics.median(taken))
    answers.put(times)
    dist.barrier()
    dist.destroy_process_group()


def _all_reduce(repeats, size):
    """The sum of `size` bytes of both."""
    values = torch.ones(size // 4)
    return lambda: dist.all_reduce(values)


def _step(repeats, arguments):
    """A training step of a model of its own on half the batch, then the sum of all dense gradients as one vector."""
    from steps import made

    step, gradients = made(**arguments)
    flat = torch.zeros(gradients // 4)

    def call():
        step()
        dist.all_reduce(flat)

    return call


JOBS = {"all_reduce": _all_reduce, "step": _step}
