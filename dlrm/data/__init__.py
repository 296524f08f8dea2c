"""Click data behind one interface."""

if __name__ != "embpress.dlrm.data":  # a bare `import data` from the checkout would be a second copy
    raise ImportError("import embpress.dlrm.data (install the project first: make install)")

from embpress.dlrm.data.base import Bags, ClickData, Part
from embpress.dlrm.data.describe import describe
from embpress.dlrm.data.load import FORMATS, load
from embpress.dlrm.data.synthetic import SyntheticSpec, rows_of, synthetic

__all__ = ["FORMATS", "Bags", "ClickData", "Part", "SyntheticSpec", "describe", "load", "rows_of", "synthetic"]
