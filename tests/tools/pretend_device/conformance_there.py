"""Runs the conformance suite on the pretended device: `conformance_there.py SPEC...`; prints failures as JSON."""

from __future__ import annotations

import json
import os
import sys
import traceback

import torch
from pretend_device import NAME, install

from embpress.compressors.testing import PROMISES, subject_of


def main(specs):
    torch.set_num_threads(1)
    install()
    os.environ["EMBPRESS_CHECK"] = "1"  # ids are checked on other devices too
    failed = {}
    for spec in specs:
        for check in PROMISES:
            try:
                check(subject_of(spec, NAME))
            except Exception as error:
                failed[f"{spec} {check.__name__}"] = "".join(traceback.format_exception(error)[-3:])
    print(json.dumps(failed))


if __name__ == "__main__":
    main(sys.argv[1:])
