"""Compressors for embedding tables: a contract, a registry of methods, all tables of a model, conversion of models."""

if __name__ != "embpress.compressors":  # a bare `import compressors` from the checkout would be a second copy
    raise ImportError("import embpress.compressors (install the project first: make install)")

from embpress.compressors.base import Compressor, TableOptions
from embpress.compressors.errors import BudgetError, InputError
from embpress.compressors.ledger import Entry, Ledger
from embpress.compressors.maintenance import maintain
from embpress.compressors.registry import MethodSpec, available, broken, create, method, parse, parse_all, register
from embpress.compressors.tables.budget import TableConfig, plan
from embpress.compressors.tables.collection import TableCollection
from embpress.compressors.tables.convert import compress_model, optimizer_groups

__all__ = [
    "BudgetError",
    "Compressor",
    "Entry",
    "InputError",
    "Ledger",
    "MethodSpec",
    "TableCollection",
    "TableConfig",
    "TableOptions",
    "available",
    "broken",
    "compress_model",
    "create",
    "maintain",
    "method",
    "optimizer_groups",
    "parse",
    "parse_all",
    "plan",
    "register",
]
