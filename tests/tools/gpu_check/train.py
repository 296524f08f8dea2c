"""A short training run of every method through the command line; fails where a method's run does.

python tests/tools/gpu_check/train.py DEVICE FOLDER
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

METHODS = "full,tt:rank=8,tt:rank=8:cache_fraction=0.01:warmup=5:refresh=10,robe:z=8,hash,qr,mlet"


def main(device: str, folder: str) -> int:
    """Exit status; the last line says how many runs were ok."""
    given = ["--methods", METHODS, "--ratio", "4", "--device", device, "--rows", "6000", "--out", folder]
    done = subprocess.run([sys.executable, "-m", "embpress.cli.main", "compare", *given])
    records = [json.loads(path.read_text(encoding="utf-8")) for path in Path(folder).glob("records/*.json")]
    wrong = [record for record in records if record["status"] != "ok"]
    for record in wrong:
        print(f"{record['method']}: {record['status']}: {record['reason']}")
    wanted = METHODS.count(",") + 1
    print(f"{len(records) - len(wrong)} of {wanted} methods trained on {device}")
    return done.returncode or int(bool(wrong) or len(records) != wanted)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
