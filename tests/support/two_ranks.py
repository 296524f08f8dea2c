"""Two processes in one gloo group that run functions of test files, started once for all tests."""

import datetime
import importlib.util
import multiprocessing
import os
import traceback

import torch
import torch.distributed as dist

WORLD = 2
START, ANSWER = 120, 60  # seconds until they are there, and until a function has returned


def available():
    """Whether torch has gloo here."""
    return dist.is_available() and dist.is_gloo_available()


class TwoRanks:
    """Call it with a function of a test file, `function(rank, *arguments)`: what it returned on each rank."""

    def __init__(self, folder):
        context = multiprocessing.get_context("spawn")
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        self.pipes, self.processes = [], []
        for rank in range(WORLD):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(rank, f"file://{folder}/store", there), daemon=True)
            process.start()
            self.pipes.append(here)
            self.processes.append(process)
        self._answers(START)

    def __call__(self, function, *arguments):
        for pipe in self.pipes:
            pipe.send((function.__code__.co_filename, function.__name__, arguments))
        return self._answers(ANSWER)

    def _answers(self, seconds):
        answers = []
        for pipe in self.pipes:
            if not pipe.poll(seconds):
                self.end()
                raise TimeoutError(f"no answer within {seconds} seconds")
            answers.append(pipe.recv())
        for rank, (_, error) in enumerate(answers):
            assert error is None, f"rank {rank}:\n{error}"
        return [value for value, _ in answers]

    def end(self):
        """Ends the processes."""
        for process in self.processes:
            process.kill()
            process.join()


def _serve(rank, store, pipe):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=store, rank=rank, world_size=WORLD, timeout=datetime.timedelta(seconds=ANSWER)
    )
    pipe.send((None, None))
    modules = {}
    while True:
        path, name, arguments = pipe.recv()
        try:
            if path not in modules:
                spec = importlib.util.spec_from_file_location(f"jobs_{len(modules)}", path)
                modules[path] = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(modules[path])
            answer = getattr(modules[path], name)(rank, *arguments), None
        except BaseException:
            answer = None, traceback.format_exc()
        pipe.send(answer)
