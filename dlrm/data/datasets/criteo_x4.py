"""Criteo_x4 of the BARS benchmark: Criteo-Kaggle split 8:1:1 at random, rare ids together.

There the integers are categories too, by their logarithm; here they are dense columns.
"""

from embpress.dlrm.data.named import Dataset

DATASET = Dataset(
    train=("train.csv", "valid.csv"),
    test=("test.csv",),
    source="github.com/reczoo/Datasets; its validation file joins the training part, of which a tenth is held out",
    md5={
        "train.csv": "4a53bb7cbc0e4ee25f9d6a73ed824b1a",
        "valid.csv": "fba5428b22895016e790e2dec623cb56",
        "test.csv": "cfc37da0d75c4d2d8778e76997df2976",
    },
    options={
        "format": "csv",
        "label": "Label",
        "dense": [f"I{k}" for k in range(1, 14)],
        "sparse": [f"C{k}" for k in range(1, 27)],
        "split": "random",
        "min_count": 10,
    },
    rows=45_840_617,
    auc=0.8143,
    auc_from="DeepFM of the BARS benchmark (github.com/reczoo/BARS, tuned, several epochs of Adam)",
)
