"""Tables, plots and markdown made from records."""

if __name__ != "embpress.reports":  # a bare `import reports` from the checkout would be a second copy
    raise ImportError("import embpress.reports (install the project first: make install)")

from embpress.reports.comparison.frames import runs_frame, to_csv, to_json
from embpress.reports.comparison.headline import answer
from embpress.reports.comparison.report import write_report
from embpress.reports.comparison.terminal import summary_cells
from embpress.reports.pages.catalogue import PAGES
from embpress.reports.summary import Summary, summary

__all__ = ["PAGES", "Summary", "answer", "runs_frame", "summary", "summary_cells", "to_csv", "to_json", "write_report"]
