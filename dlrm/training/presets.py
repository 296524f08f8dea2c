"""Sizes and training by name: what `--preset` sets where nothing else is said."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    # facebookresearch/dlrm, bench/dlrm_s_criteo_kaggle.sh
    "kaggle": {
        "width": 16,
        "bottom": (512, 256, 64),
        "top": (512, 256),
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "batch_size": 128,
    },
    # MLPerf training's DLRM on Criteo Terabyte
    "terabyte": {
        "width": 128,
        "bottom": (512, 256),
        "top": (1024, 1024, 512, 256),
        "optimizer": "sgd",
        "learning_rate": 1.0,
        "batch_size": 2048,
    },
}
