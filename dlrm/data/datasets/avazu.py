"""Avazu's Click-Through Rate Prediction of 2014, ten days of mobile advertising."""

from embpress.dlrm.data.named import Dataset

COLUMNS = (
    *("hour", "C1", "banner_pos", "site_id", "site_domain", "site_category", "app_id", "app_domain", "app_category"),
    *("device_id", "device_ip", "device_model", "device_type", "device_conn_type", *(f"C{k}" for k in range(14, 22))),
)

DATASET = Dataset(
    train=("train.csv",),
    source="kaggle.com/c/avazu-ctr-prediction; in order of time, and the last fifth is the test part",
    options={"format": "csv", "label": "click", "sparse": list(COLUMNS), "split": "order"},
    rows=40_428_967,
)
