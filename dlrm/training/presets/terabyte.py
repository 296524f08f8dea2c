"""MLPerf training's DLRM on Criteo Terabyte."""

VALUES = {
    "width": 128,
    "bottom": (512, 256),
    "top": (1024, 1024, 512, 256),
    "optimizer": "sgd",
    "learning_rate": 1.0,
    "batch_size": 2048,
}
