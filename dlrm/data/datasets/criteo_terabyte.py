"""Criteo's 24 days of click logs, as MLPerf's DLRM takes them: the first half of the last day is the test part.

MLPerf's reference (facebookresearch/dlrm, bench/run_and_time.sh with `--max-ind-range=40000000 --mlperf-bin-loader`)
leaves out no row: 4,195,197,692 rows of the first 23 days are trained on, and `numpy_to_binary` of its
data_loader_terabyte.py makes the first 89,137,319 rows of the last day the test part and the other 89,137,318 the
validation part. `--drop-negatives 0.875` is of its smaller recipe (dlrm_s_criteo_terabyte.sh, 10 million rows a table).
A table's cap is met there by the remainder of an id's hash, here by leaving the rarest ids in row 0.
"""

from embpress.dlrm.data.named import Dataset

DAYS = tuple(f"day_{day}" for day in range(24))

DATASET = Dataset(
    train=DAYS[:-1],
    test=DAYS[-1:],
    source="Criteo 1TB Click Logs; the last day halved for test and validation, tables capped, as in MLPerf's DLRM",
    options={"format": "criteo", "split": "halves", "max_rows_per_table": 40_000_000},
    rows=4_373_472_329,
    auc=0.8025,
    auc_from="DLRM, the target of MLPerf Training v0.7 to v2.1",
)
