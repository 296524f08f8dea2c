"""ROBE's page: the general one, and what the published times are."""

from __future__ import annotations

from embpress.dlrm.bench.sharing_paper import BANDWIDTH
from embpress.reports.bench import page


class Page(page.Page):
    """Lookups, and the dense backward."""

    def notes(self, group: str) -> list[str]:
        """Where the published times are from."""
        if group != "backward":
            return []
        return [
            "The paper is 10000x sharing (Desai and Shrivastava), Table 2 (b). It says of its hardware 'a single GPU'; "
            f"its times are scaled by {BANDWIDTH / 1e9:.0f} GB/s, the memory bandwidth of the Quadro RTX 8000 "
            "that it names elsewhere, over this GPU's, where that is known."
        ]
