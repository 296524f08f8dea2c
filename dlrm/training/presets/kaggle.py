"""facebookresearch/dlrm's script for Criteo-Kaggle.

It is bench/dlrm_s_criteo_kaggle.sh there.
"""

VALUES = {
    "width": 16,
    "bottom": (512, 256, 64),
    "top": (512, 256),
    "optimizer": "sgd",
    "learning_rate": 0.1,
    "batch_size": 128,
}
