"""Criteo_x1 of the BARS benchmark: Criteo-Kaggle split 7:2:1 at random."""

from embpress.dlrm.data.named import Dataset

DATASET = Dataset(
    train=("train.csv", "valid.csv"),
    test=("test.csv",),
    source="github.com/reczoo/Datasets; its validation file joins the training part, of which a tenth is held out",
    md5={
        "train.csv": "30b89c1c7213013b92df52ec44f52dc5",
        "valid.csv": "f73c71fb3c4f66b6ebdfa032646bea72",
        "test.csv": "2c48b26e84c04a69b948082edae46f8c",
    },
    options={
        "format": "csv",
        "label": "label",
        "dense": [f"I{k}" for k in range(1, 14)],
        "sparse": [f"C{k}" for k in range(1, 27)],
        "split": "random",
        "min_count": 1,
    },
    rows=45_840_617,
    auc=0.8138,
    auc_from="DLRM of the BARS benchmark (github.com/reczoo/BARS, tuned, several epochs of Adam)",
)
