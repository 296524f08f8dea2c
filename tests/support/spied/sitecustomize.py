"""Spies on processes that have this folder on their path: what they save, and a death where a test wants one.

TALLY names a file that gets a line for every record that is written. DIES names methods: a process that is about to
train one is killed, once where ONCE names a file that is not there yet.
"""

import os
import signal
import sys

if "TALLY" in os.environ and any("embpress.cli.main" in word for word in sys.orig_argv):
    from embpress.dlrm.runs import compare, store

    save, run = store.save, compare.run

    def telling(folder, made, predictions=None):
        path = save(folder, made, predictions)
        with open(os.environ["TALLY"], "a") as tally:
            tally.write(f"{folder.name}/{made.id}\n")
        return path

    def dying(data, spec, *arguments, **keywords):
        if spec.name in os.environ.get("DIES", "").split(","):
            try:
                if "ONCE" in os.environ:
                    open(os.environ["ONCE"], "x").close()
                os.kill(os.getpid(), signal.SIGKILL)
            except FileExistsError:
                pass
        return run(data, spec, *arguments, **keywords)

    store.save, compare.run = telling, dying
