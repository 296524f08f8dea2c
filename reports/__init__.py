"""Tables, plots and markdown made from records."""

if __name__ != "embpress.reports":  # a bare `import reports` from the checkout would be a second copy
    raise ImportError("import embpress.reports (install the project first: make install)")

from embpress.reports.answer import answer
from embpress.reports.cells import summary_cells
from embpress.reports.markdown import write_report
from embpress.reports.pages import PAGES
from embpress.reports.summaries import Summary, summary
from embpress.reports.tables import runs_frame, to_csv, to_json

__all__ = ["PAGES", "Summary", "answer", "runs_frame", "summary", "summary_cells", "to_csv", "to_json", "write_report"]
