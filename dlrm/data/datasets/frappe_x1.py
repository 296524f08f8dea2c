"""Frappe_x1 of the BARS benchmark: use of mobile apps by context, split 7:2:1."""

from embpress.dlrm.data.named import Dataset

COLUMNS = ("user", "item", "daytime", "weekday", "isweekend", "homework", "cost", "weather", "country", "city")

DATASET = Dataset(
    train=("train.csv", "valid.csv"),
    test=("test.csv",),
    source="github.com/reczoo/Datasets; its validation file joins the training part, of which a tenth is held out",
    md5={
        "train.csv": "ba7306e6c4fc19dd2cd84f2f0596d158",
        "valid.csv": "88d51bf2173505436d3a8f78f2a59da8",
        "test.csv": "3470f6d32713dc5f7715f198ca7c612a",
    },
    options={"format": "csv", "label": "label", "sparse": list(COLUMNS), "split": "random", "min_count": 1},
    rows=288_609,
    auc=0.9840,
    auc_from="DLRM of the BARS benchmark (github.com/reczoo/BARS, tuned, several epochs of Adam)",
)
