"""The DLRM harness: data, model, training, evaluation, latency, records."""

from typing import Any

if __name__ != "embpress.dlrm":  # a bare `import dlrm` from the checkout would be a second copy
    raise ImportError("import embpress.dlrm (install the project first: make install)")

__all__ = ["compare_models"]


def __getattr__(name: str) -> Any:  # help is shown without torch
    if name == "compare_models":
        from embpress.dlrm.user_model.compare import compare_models

        return compare_models
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
