"""Compressors for embedding tables: a contract, a registry of methods, all tables of a model, conversion of models."""

if __name__ != "embpress.compressors":  # a bare `import compressors` from the checkout would be a second copy
    raise ImportError("import embpress.compressors (install the project first: make install)")

from typing import Any

from embpress.compressors.base import Compressor
from embpress.compressors.distributed import synchronize
from embpress.compressors.errors import BudgetError, InputError
from embpress.compressors.fitted import from_dense
from embpress.compressors.ledger import Entry, Ledger
from embpress.compressors.maintenance import begin_training, load_training_state, maintain, training_state
from embpress.compressors.modifiers.base import Modifier
from embpress.compressors.options import TableOptions
from embpress.compressors.registry import METHODS, MODIFIERS, available, broken, method, register, register_modifier
from embpress.compressors.sizes import create
from embpress.compressors.spec import MethodSpec, ModifierSpec, PlanFile, parse, parse_all
from embpress.compressors.tables.collection import TableCollection
from embpress.compressors.tables.conversion.convert import compress_model
from embpress.compressors.tables.conversion.groups import optimizer_groups
from embpress.compressors.tables.conversion.linear import linear
from embpress.compressors.tables.planning.plan import Plan, TableConfig, TablePlan
from embpress.compressors.tables.planning.proportional import plan
from embpress.compressors.tables.whole_model import fold_model, model_ledger
from embpress.compressors.tags import Tags

__all__ = [
    "BudgetError",
    "Compressor",
    "Entry",
    "InputError",
    "Ledger",
    "MethodSpec",
    "Modifier",
    "ModifierSpec",
    "Plan",
    "PlanFile",
    "TableCollection",
    "TableConfig",
    "TableOptions",
    "TablePlan",
    "Tags",
    "available",
    "begin_training",
    "broken",
    "compress_model",
    "create",
    "fold_model",
    "from_dense",
    "linear",
    "load_training_state",
    "maintain",
    "method",
    "model_ledger",
    "optimizer_groups",
    "parse",
    "parse_all",
    "plan",
    "register",
    "register_modifier",
    "synchronize",
    "training_state",
]


def __getattr__(name: str) -> Any:
    """The class of a method or a modifier, such as `TTRec` or `Robe`, where it is registered."""
    if not name.startswith("_"):
        for registry in (METHODS, MODIFIERS):
            for known in registry.names():
                if (cls := registry.get(known)).__name__ == name:
                    return cls
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
