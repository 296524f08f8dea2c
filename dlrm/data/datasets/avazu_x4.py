"""Avazu_x4 of the BARS benchmark: Avazu split 8:1:1 at random.

There the hour is three features, with weekday and weekend; here it is one.
"""

from embpress.dlrm.data.datasets.avazu import COLUMNS
from embpress.dlrm.data.named import Dataset

DATASET = Dataset(
    train=("train.csv", "valid.csv"),
    test=("test.csv",),
    source="github.com/reczoo/Datasets; its validation file joins the training part, of which a tenth is held out",
    md5={
        "train.csv": "de3a27264cdabf66adf09df82328ccaa",
        "valid.csv": "33232931d84d6452d3f956e936cab2c9",
        "test.csv": "3ebb774a9ca74d05919b84a3d402986d",
    },
    options={"format": "csv", "label": "click", "sparse": list(COLUMNS), "split": "random", "min_count": 2},
    rows=40_428_967,
    auc=0.7930,
    auc_from="DeepFM of the BARS benchmark (github.com/reczoo/BARS, tuned, several epochs of Adam)",
)
