"""A page and a plot from a folder elsewhere are found by being there."""

import sys

import pytest
from click.testing import CliRunner

from embpress.cli.main import main
from embpress.dlrm.runs.store import save
from embpress.reports import page_names, pages, write_report
from embpress.reports.comparison import plots

PLOT = """
from embpress.reports.plotting.style import figure

TITLE = "Seeds of each method"
CAPTION = "How often each was run."


def draw(rows):
    made = figure(2.0)
    made.subplots().bar([row.label for row in rows], [row.n for row in rows])
    return made if len(rows) > 1 else None
"""
PAGE = """
def lacks(runs):
    return "" if any(run.seed == 1 for run in runs) else "nobody ran seed 1"


def make(plots, runs):
    return f"# Seeds\\n\\n{len(runs)} runs\\n"
"""


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Adds a folder to a package, as a package of somebody else's would."""

    def add(package, name, files):
        folder = tmp_path / name
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])

    before = set(sys.modules)
    yield add
    for name in set(sys.modules) - before:
        if name.startswith((plots.__name__, pages.__name__)):
            del sys.modules[name]


def test_a_plot(elsewhere, run, tmp_path):
    elsewhere(plots, "more", {"seed_counts.py": PLOT})
    folder = tmp_path / "run"
    text = write_report(folder, [run("full"), run("tt")]).read_text()
    assert "![Seeds of each method](plots/seed_counts.png)\n\nHow often each was run." in text
    assert (folder / "plots" / "seed_counts.png").read_bytes()[:4] == b"\x89PNG"
    assert "seed_counts" not in write_report(folder, [run("full")]).read_text()
    assert not (folder / "plots" / "seed_counts.png").exists()


def test_a_page(elsewhere, run, tmp_path):
    about = 'TITLE = "Seeds"\nABOUT = "which seeds were run."\n'
    elsewhere(pages, "more", {"which_seeds/__init__.py": about, "which_seeds/page.py": PAGE})
    assert "which-seeds" in page_names()
    folder = tmp_path / "run"
    save(folder, run("full"))

    def report(*names):
        options = [part for name in names for part in ("--page", name)]
        return CliRunner().invoke(main, ["report", str(folder), *options])

    help_text = CliRunner().invoke(main, ["report", "--help"]).output
    assert "which-seeds: which seeds were run." in " ".join(help_text.replace("-\n", "-").split()).replace("- ", "-")
    refused = report("which-seeds")
    assert refused.exit_code == 2
    assert "nobody ran seed 1" in refused.stderr
    # where one of two cannot be written, the other is
    done = report("which-seeds", "hot-rows")
    assert done.exit_code == 0, done.output
    assert done.stderr.strip() == f"not written: --page which-seeds: {folder}: nobody ran seed 1"
    assert (folder / "hot-rows.md").exists()
    assert not (folder / "which-seeds.md").exists()
    save(folder, run("full", 1))
    assert report("which-seeds").exit_code == 0
    assert (folder / "which-seeds.md").read_text() == "# Seeds\n\n2 runs\n"
    assert "[Seeds](which-seeds.md): which seeds were run." in (folder / "report.md").read_text()
