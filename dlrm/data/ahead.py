"""The next item is made while one is worked on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, each made in another thread while the one before is worked on; two are there at a time.

    What stops the making is raised here, in the place of the item that could not be made. The thread ends, and `items`
    is closed, with this iterator: when it is exhausted, closed or given up.
    """
    end = object()
    try:
        with ThreadPoolExecutor(1, "ahead") as maker:
            coming = maker.submit(next, items, end)
            while (item := coming.result()) is not end:
                coming = maker.submit(next, items, end)
                yield item  # type: ignore[misc]  # it is no `end`
    finally:
        close = getattr(items, "close", None)  # of a generator, which may have files to close and threads to end
        if close is not None:
            close()
