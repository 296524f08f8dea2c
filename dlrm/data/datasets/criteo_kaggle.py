"""Criteo's Display Advertising Challenge of 2014, seven days of clicks."""

from embpress.dlrm.data.named import Dataset

DATASET = Dataset(
    train=("train.txt",),
    source="kaggle.com/c/criteo-display-ad-challenge; in order of time, and the last fifth is the test part",
    options={"format": "criteo", "split": "order"},
    rows=45_840_617,
)
