"""`Plan`: for every table of a model its method, knobs and modifiers, and the bytes it takes; saved as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from embpress.compressors.base import Compressor
from embpress.compressors.errors import InputError
from embpress.compressors.guard import whole
from embpress.compressors.registry import method, modifier
from embpress.compressors.spec import MethodSpec, ModifierSpec, typed

SCHEMA = "embpress-plan/1"


class TableConfig(NamedTuple):
    """One table of a model, as it was asked for."""

    num_embeddings: int
    embedding_dim: int
    name: str = ""


def whole_sizes(configs: Sequence[TableConfig]) -> list[TableConfig]:
    """The tables with sizes that are Python's integers, whatever kind of integer they were.

    Raises:
        InputError: a size that is no whole number, or below 1; names the table.
    """
    made = []
    for t, (n, dim, name) in enumerate(configs):
        label = name or f"table {t}"
        made.append(TableConfig(whole(n, f"rows of {label}", 1), whole(dim, f"width of {label}", 1), name))
    return made


@dataclass(frozen=True)
class TablePlan:
    """One table of a plan.

    Attributes:
        config: the table, at the model's own width.
        embedding_dim: the width it is built with; below the model's own where a method saves by width.
        method: its method, knobs and modifiers, with nothing left to solve.
        bytes: serving bytes; memory that tables share is divided among them in proportion to n·D.
        why: the reason of the choice, a line.
    """

    config: TableConfig
    embedding_dim: int
    method: MethodSpec
    bytes: int
    why: str = ""


@dataclass(frozen=True)
class Plan:
    """What to build: one entry a table, in the model's order.

    Attributes:
        tables: the entries.
        about: what whoever made it says of it, such as the AUC that it promises; it builds nothing.
    """

    tables: tuple[TablePlan, ...]
    about: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def width(self) -> int:
        """The width that the widest table is built with."""
        return max(table.embedding_dim for table in self.tables)

    @property
    def bytes(self) -> int:
        """Serving bytes of all tables."""
        return sum(table.bytes for table in self.tables)

    @property
    def full_bytes(self) -> int:
        """`Σ 4 n D` at the model's own width."""
        return sum(4 * table.config.num_embeddings * table.config.embedding_dim for table in self.tables)

    def to_json(self) -> str:
        """The plan as a file holds it, which `plan:FILE` names wherever a method may stand."""
        tables = [
            {
                "table": t.config.name,
                "num_embeddings": t.config.num_embeddings,
                "model_dim": t.config.embedding_dim,
                "embedding_dim": t.embedding_dim,
                "method": t.method.name,
                "knobs": t.method.knobs,
                "modifiers": [{"name": m.name, "knobs": m.knobs} for m in t.method.modifiers],
                "bytes": t.bytes,
                **({"why": t.why} if t.why else {}),
            }
            for t in self.tables
        ]
        about = {"about": self.about} if self.about else {}
        return json.dumps({"schema": SCHEMA, "tables": tables, **about}, indent=1, ensure_ascii=False) + "\n"

    def save(self, path: str | Path) -> None:
        """Writes the file; InputError where it cannot be written."""
        try:
            Path(path).write_text(self.to_json(), encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write the plan {path}: {error.strerror or error}") from None

    @classmethod
    def read(cls, path: str | Path) -> Plan:
        """A plan from its file.

        Raises:
            InputError: the file cannot be read or is no plan; names the file, and the table where one is wrong.
        """
        try:
            return cls.of_text(Path(path).read_text(encoding="utf-8"), str(path))
        except OSError as error:
            raise InputError(f"cannot read the plan {path}: {error.strerror or error}") from None
        except UnicodeDecodeError:
            raise InputError(f"{path} is no plan: it holds no JSON") from None

    @classmethod
    def of_text(cls, text: str, path: str) -> Plan:
        """A plan from what `to_json` wrote into the file `path`, which errors name; raises as `read` does."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            raise InputError(f"{path} is no plan: it holds no JSON") from None
        if not isinstance(value, dict) or value.get("schema") != SCHEMA or not isinstance(value.get("tables"), list):
            raise InputError(f"{path} is no plan: it has no schema {SCHEMA!r} with a list of tables")
        if not value["tables"]:
            raise InputError(f"{path}: the plan has no tables")
        tables = tuple(_table(entry, f"{path}, table {i}") for i, entry in enumerate(value["tables"], 1))
        return cls(tables, about if isinstance(about := value.get("about"), dict) else {})

    def on(self, configs: Sequence[TableConfig]) -> Plan:
        """This plan for the tables of a model, which must have the planned shapes.

        Tables are found by name; where names are missing or not each its own, by their order.

        Raises:
            InputError: a table that the plan does not have, or has with another shape; or one that the model lacks.
        """
        names = [config.name for config in configs]
        planned = [table.config.name for table in self.tables]
        if all(names) and len(set(names)) == len(names) and len(set(planned)) == len(planned):
            for name in planned:
                if name not in set(names):
                    raise InputError(f"the plan has a table {name!r}, which this model has not")
            for name in names:
                if name not in set(planned):
                    raise InputError(f"the plan has no table {name!r}")
            tables = [self.tables[planned.index(name)] for name in names]
        elif len(names) == len(planned):
            tables = list(self.tables)
        else:
            raise InputError(f"the plan has {len(planned)} tables, this model has {len(names)}")
        for table, config in zip(tables, configs):
            if table.config[:2] != config[:2]:
                shapes = [f"{n:,} × {dim}" for n, dim, _ in (table.config, config)]
                raise InputError(
                    f"the plan has the table {table.config.name!r} with {shapes[0]}, this model with {shapes[1]}"
                )
        if len({table.config.embedding_dim for table in tables}) == 1 and len({t.embedding_dim for t in tables}) > 1:
            raise InputError("the plan builds its tables with several widths, a model needs one")
        return Plan(tuple(replace(table, config=config) for table, config in zip(tables, configs)), self.about)


def _table(entry: Any, where: str) -> TablePlan:
    try:
        n, dim, width = (entry[key] for key in ("num_embeddings", "model_dim", "embedding_dim"))
        if not all(type(number) is int and number > 0 for number in (n, dim, width)):
            raise InputError("its sizes must be positive whole numbers")
        written: list[dict[str, Any]] = [
            {"name": m, "knobs": {}} if isinstance(m, str) else m for m in entry.get("modifiers", [])
        ]
        modifiers = tuple(ModifierSpec(m["name"], _knobs(m["name"], modifier, m["knobs"])) for m in written)
        method_ = MethodSpec(entry["method"], _knobs(entry["method"], method, entry["knobs"]), modifiers=modifiers)
        config, size = TableConfig(n, dim, str(entry["table"])), int(entry.get("bytes", 0))
        return TablePlan(config, width, method_, size, str(entry.get("why", "")))
    except KeyError as error:
        raise InputError(f"{where}: {error} is missing") from None
    except (TypeError, AttributeError):
        raise InputError(f"{where}: it is not written as plans are") from None
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _knobs(name: str, find: Callable[[str], type[Compressor]], knobs: dict[str, Any]) -> dict[str, Any]:
    """Knobs as a spec has them: JSON has lists where knobs have tuples."""
    cls = find(name)
    for key in knobs:
        if key in cls.wiring:
            raise InputError(f"{name!r} sets {key!r} itself, where it builds its tables")
    return {
        key: typed(name, cls, key, "x".join(map(str, value)) if isinstance(value, list) else str(value))
        for key, value in knobs.items()
    }
