"""Avazu_x1 of the BARS benchmark: Avazu split 7:1:2, its 22 features numbered."""

from embpress.dlrm.data.named import Dataset

DATASET = Dataset(
    train=("train.csv", "valid.csv"),
    test=("test.csv",),
    source="github.com/reczoo/Datasets; its validation file joins the training part, of which a tenth is held out",
    md5={
        "train.csv": "f1114a07aea9e996842c71648e0f6395",
        "valid.csv": "d9568f246357d156c4b8030fadb8b623",
        "test.csv": "9e2fe9c48705c9315ae7a0953eb57acf",
    },
    options={
        "format": "csv",
        "label": "label",
        "sparse": [f"feat_{k}" for k in range(1, 23)],
        "split": "random",
        "min_count": 1,
    },
    rows=40_428_967,
    auc=0.7639,
    auc_from="DLRM of the BARS benchmark (github.com/reczoo/BARS, tuned, several epochs of Adam)",
)
