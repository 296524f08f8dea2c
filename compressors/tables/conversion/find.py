"""Which weights of a model are embedding tables, which modules use each, and why one must stay as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from embpress.compressors.errors import InputError, nearest
from embpress.compressors.guard import shown
from embpress.compressors.tables.conversion.torchrec import is_collection
from embpress.compressors.tables.planning.plan import TableConfig

Selection = str | Sequence[str] | Callable[[str, nn.Module], bool]

KINDS = (nn.Embedding, nn.EmbeddingBag)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@dataclass(eq=False)
class Found:
    """One weight and the modules that use it.

    Attributes:
        weight: the rows `(n, D)`.
        users: embedding modules by name, in the model's order; a module under two names is there twice.
        heads: linear layers whose weight it is too, by name.
        note: why it stays as it is; empty where it can be replaced.
    """

    weight: Any
    users: list[tuple[str, Any]] = field(default_factory=list)
    heads: list[tuple[str, Any]] = field(default_factory=list)
    note: str = ""

    @property
    def module(self) -> Any:
        """The first embedding module."""
        return self.users[0][1]

    @property
    def config(self) -> TableConfig:
        """The table by the name of its first module."""
        n, dim = self.weight.shape
        return TableConfig(n, dim, self.users[0][0])


def find_tables(model: nn.Module) -> list[Found]:
    """The embedding tables of a model, one a weight, with a note where one cannot be replaced."""
    tables: dict[int, Found] = {}
    named = list(model.named_modules(remove_duplicate=False))
    for name, module in named:
        if isinstance(module, KINDS):
            weight = module.weight
            found = tables.setdefault(id(weight), Found(weight))
            found.users.append((name, module))
            found.note = found.note or _refusal(module) or _keeper(model, name)
    for name, module in named:
        for own, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in tables or (own == "weight" and isinstance(module, KINDS)):
                continue
            found = tables[id(parameter)]
            if type(module) is nn.Linear and own == "weight" and not _altered(module):
                found.heads.append((name, module))
            else:
                where = f"{name}.{own}" if name else own
                found.note = found.note or f"its weight is also {where} of a {type(module).__name__}"
    return list(tables.values())


def select(tables: Iterable[Found], only: Selection | None, skip: Selection | None) -> None:
    """Notes the tables that `only` leaves out or `skip` names; a table is named where one of its modules is.

    Raises:
        InputError: a name or a pattern that fits no embedding module.
    """
    tables = list(tables)
    for choice, named_stays, note in ((only, False, "not among only"), (skip, True, "skipped")):
        if choice is None:
            continue
        if not callable(choice):
            _known(choice, [name for found in tables for name, _ in found.users])
        for found in tables:
            if any(_fits(choice, name, module) for name, module in found.users) == named_stays:
                found.note = found.note or note


def _fits(choice: Selection, name: str, module: nn.Module) -> bool:
    if callable(choice):
        return bool(choice(name, module))
    return any(fnmatchcase(name, pattern) for pattern in _patterns(choice))


def _patterns(choice: str | Sequence[str]) -> Sequence[str]:
    return [choice] if isinstance(choice, str) else choice


def _known(choice: str | Sequence[str], names: Sequence[str]) -> None:
    for pattern in _patterns(choice):
        if not any(fnmatchcase(name, pattern) for name in names):
            raise InputError(f"no embedding of the model is named {shown(pattern)}{nearest(pattern, names)}")


def _refusal(module: Any) -> str:
    """Why a module cannot be replaced, or nothing."""
    if type(module) not in KINDS:
        return f"{type(module).__name__} is a class of its own, which may compute something else"
    if _altered(module):
        return "it has hooks or a forward of its own"
    if type(module.weight) is not nn.Parameter:
        return f"its weight is a {type(module.weight).__name__}, not a plain parameter"
    if module.max_norm is not None:
        return "max_norm is not supported"
    if not module.weight.requires_grad:
        return "its weight is frozen"
    if module.scale_grad_by_freq:
        return "scale_grad_by_freq is not supported"
    if isinstance(module, nn.EmbeddingBag) and module.mode == "max":
        return "mode='max' is not supported"
    if hasattr(module.weight, "_in_backward_optimizers"):
        return "its weight has an optimizer of its own, applied in the backward; convert the model before"
    return ""


def _altered(module: nn.Module) -> bool:
    """Whether a module does more than its class says."""
    return "forward" in vars(module) or any(getattr(module, name, None) for name in _HOOKS)


def _keeper(model: nn.Module, name: str) -> str:
    """Modules of TorchRec around its plain collections, which go past `forward` to the weights."""
    path = name.split(".")[:-2]
    if not is_collection(model.get_submodule(".".join(path))):
        return ""
    for end in range(len(path)):
        kind = type(model.get_submodule(".".join(path[:end])))
        if kind.__module__.startswith("torchrec.modules."):
            return f"{kind.__name__} around it reads its weight"
    return ""
