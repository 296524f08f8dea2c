"""Criteo's 24 days of click logs, as MLPerf's DLRM takes them: the last day is the test part."""

from embpress.dlrm.data.named import Dataset

DAYS = tuple(f"day_{day}" for day in range(24))

DATASET = Dataset(
    train=DAYS[:-1],
    test=DAYS[-1:],
    source="Criteo 1TB Click Logs; 0.875 of the rows without a click left out and tables capped, as in MLPerf's DLRM",
    options={"format": "criteo", "split": "order", "drop_negatives": 0.875, "max_rows_per_table": 40_000_000},
    rows=4_373_472_329,
    auc=0.8025,
    auc_from="the target of MLPerf Training's DLRM, whose test part is the second half of the last day",
)
