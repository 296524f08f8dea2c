"""A sample of KDD Cup 2012's track 2, clicks on adverts beside the results of a search engine."""

from embpress.dlrm.data.named import Dataset

IDS = ("url_hash", "ad_id", "advertiser_id", "query_id", "keyword_id", "title_id", "description_id", "user_id")

DATASET = Dataset(
    train=("Click_prediction_small.csv",),
    source="Click_prediction_small of openml.org, saved as csv; a fifth of the rows at random is the test part",
    options={
        "format": "csv",
        "label": "click",
        "dense": ["impression", "depth", "position"],
        "sparse": list(IDS),
        "split": "random",
    },
    rows=39_948,
)
