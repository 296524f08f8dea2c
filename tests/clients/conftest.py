"""Other people's packages beside ours: what `python -m pytest` puts on the path, the checkout, is taken off it."""

import importlib.util
import sys
from pathlib import Path

from paths import ROOT

if importlib.util.find_spec("transformers"):  # it looks for a package that is called as our folder of kernels is
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
