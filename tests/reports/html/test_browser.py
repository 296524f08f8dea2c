"""The page in a real browser: nothing is asked for, nothing fails, tables sort, plots tell their values."""

import pytest
from chromium import BROWSER, Chromium
from made_runs import made_run, made_runs

from embpress.reports import write_report

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium here (apt-get install chromium)")
NAMES = ["tt+int4<script>document.title='no'</script>", "a|\"b'`c`", "名前", "اسم"]
TABLE = "document.querySelector('#results table')"
COLUMN = "[...{table}.tBodies[0].rows].map(row => row.cells[{column}].textContent)"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("été") / "a b#c"
    odd = [made_run(name, seed, 16.0, 0.70 + i / 1000 + seed / 1e4) for i, name in enumerate(NAMES) for seed in (0, 1)]
    lost = made_run("dhe:hashes=9", 0, 16.0, 0.7, status="failed", metrics={}, reason="<b>out</b> of memory", tables=[])
    write_report(folder, [*made_runs(20, 2, (16.0,)), *odd, lost], html=True)
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser():
    with Chromium() as started:
        yield started


@pytest.fixture(params=[(1200, False), (1200, True), (390, False)], ids=["light", "dark", "phone"])
def opened(request, browser, path):
    width, dark = request.param
    browser.open(path, width=width, dark=dark)
    yield browser
    assert browser.console == []
    assert [url for url in browser.requests if url != path.as_uri()] == []


def column(browser, k, table=TABLE):
    return browser.run(COLUMN.format(table=table, column=k))


def header(k):
    return f"{TABLE}.tHead.rows[0].cells[{k}]"


def sorted_by(browser, k):
    return browser.run(f"{header(k)}.getAttribute('aria-sort')")


def test_it_fits_the_window_and_names_are_text(opened):
    assert opened.run("document.documentElement.scrollWidth <= innerWidth")
    assert opened.run("document.title").startswith("Compressed embedding tables")
    names = column(opened, 0)
    assert set(NAMES) < set(names)
    assert opened.run("document.querySelectorAll('script').length") == 1
    assert "<b>out</b> of memory" in opened.run("document.querySelector('#failures').textContent")


def test_the_paper_is_dark_in_the_dark_and_text_can_be_read(browser, path):
    seen = {}
    for dark in (False, True):
        browser.open(path, dark=dark)
        seen[dark] = [
            sum(map(int, browser.run(f"getComputedStyle(document.querySelector('{what}')).{colour}")[4:-1].split(",")))
            for what, colour in (("body", "backgroundColor"), (".plot text", "fill"))
        ]
    (light_paper, light_text), (dark_paper, dark_text) = seen[False], seen[True]  # red, green and blue together
    assert light_paper == 3 * 255
    assert light_text < 250 < 500 < dark_text
    assert dark_paper < 100


def test_a_click_on_a_header_sorts_by_number_and_back(opened):
    auc = opened.run(f"[...{TABLE}.tHead.rows[0].cells].findIndex(cell => cell.textContent.startsWith('Test AUC'))")
    before = column(opened, auc)
    assert sorted_by(opened, auc) == "none"
    opened.click(f"{header(auc)}.querySelector('button')")
    assert sorted_by(opened, auc) == "ascending"
    told = [float(text.split()[0]) for text in column(opened, auc) if text != "–"]
    assert told == sorted(told)
    assert column(opened, auc)[-1] == "–"  # what has no number is last both ways
    opened.click(f"{header(auc)}.querySelector('button')")
    assert sorted_by(opened, auc) == "descending"
    again = column(opened, auc)
    assert [float(text.split()[0]) for text in again[:-1]] == told[::-1]
    assert again[-1] == "–"
    opened.click(f"{header(auc)}.querySelector('button')")
    assert sorted_by(opened, auc) == "none"
    assert column(opened, auc) == before


def test_sizes_sort_across_units_by_the_keyboard(opened):
    opened.run(f"{header(1)}.querySelector('button').focus()")
    opened.key("Enter", "\r")
    assert sorted_by(opened, 1) == "ascending"
    units = {"kB": 1e3, "MB": 1e6}
    sizes = [float(text.split()[0]) * units[text.split()[1]] for text in column(opened, 1) if text != "–"]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) > 1
    opened.key("Tab")
    assert opened.run(f"document.activeElement === {header(2)}.querySelector('button')")


def test_names_sort_and_a_sum_stays_last(opened):
    opened.run("document.querySelector('.details button').click()")
    table = "document.querySelector('#size-of-each-table table')"
    for _ in range(2):
        opened.click(f"{table}.tHead.rows[0].cells[0].querySelector('button')")
        names = column(opened, 0, table)
        assert names[-1] == "All"
    numbers = [int(name[1:]) for name in names[:-1]]
    assert numbers == sorted(numbers, reverse=True)


def test_rows_are_found_by_a_word(opened):
    opened.run(
        "(i => { i.value = 'robe int8'; i.dispatchEvent(new Event('input')) })"
        "(document.querySelector('#results input[type=search]'))"
    )
    seen = opened.run(f"[...{TABLE}.tBodies[0].rows].filter(row => !row.hidden).map(row => row.cells[0].textContent)")
    assert seen == ["robe:z=8+hot:fraction=0.01+int8"]


def test_pointing_at_a_point_tells_its_values_and_lights_its_method(opened):
    tip = "document.getElementById('tip')"
    assert opened.run(f"{tip}.hidden")
    opened.point("document.querySelector('.spot[data-series=\"qr+int4\"]')")
    told = opened.run(f"{tip}.textContent")
    assert told.split("\n")[0] == "qr+int4"
    assert "Test AUC 0.7" in told
    inside = opened.run(f"(b => b.left >= 0 && b.right <= innerWidth && b.top >= 0)({tip}.getBoundingClientRect())")
    assert inside
    lit = opened.run("[...new Set([...document.querySelectorAll('svg.dim .on')].map(one => one.dataset.series))]")
    assert lit == ["qr+int4"]
    opened.point("document.querySelector('h1')")
    assert opened.run(f"{tip}.hidden")
    assert opened.run("document.querySelectorAll('svg.dim').length") == 0


def test_arrow_keys_walk_through_the_points(opened):
    opened.run("document.querySelector('.plot').focus()")
    told = []
    for _ in range(3):
        opened.key("ArrowRight")
        told.append(opened.run("document.getElementById('tip').textContent"))
    assert len(set(told)) == 3
    opened.key("ArrowLeft")
    assert opened.run("document.getElementById('tip').textContent") == told[1]
    opened.key("Escape")
    assert opened.run("document.getElementById('tip').hidden")


def test_every_point_of_every_plot_tells_something(opened):
    count, empty = opened.run(
        "(s => [s.length, s.filter(one => !one.dataset.tip).length])([...document.querySelectorAll('.spot')])"
    )
    assert count > 500
    assert empty == 0


def test_details_open_by_a_link_all_at_once_and_on_paper(browser, path):
    browser.open(path)
    opened = "[...document.querySelectorAll('main > details')].filter(one => one.open).length"
    total = browser.run("document.querySelectorAll('main > details').length")
    assert total > 4
    assert browser.run(opened) == 0
    browser.run("location.hash = 'environment'; new Promise(done => setTimeout(done, 100))")
    assert browser.run("document.getElementById('environment').open")
    assert browser.run(opened) == 1
    browser.run("dispatchEvent(new Event('beforeprint'))")
    assert browser.run(opened) == total
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert browser.run(opened) == 1
    browser.run("document.querySelector('.details button').click()")
    assert browser.run(opened) == total
    assert browser.pdf().startswith(b"%PDF")
    assert browser.console == []


def test_a_script_from_data_would_not_run(browser, path, tmp_path):
    """Should a name ever become an element, the policy of the page still stands between it and the reader."""
    broken = tmp_path / "broken.html"
    attack = "<img src='http://127.0.0.1:9/x.png' onerror=\"document.title='no'\"><script>document.title='no'</script>"
    broken.write_text(path.read_text(encoding="utf-8").replace("<main>", f"<main>{attack}"), encoding="utf-8")
    browser.open(broken)
    assert browser.run("document.title").startswith("Compressed")
    assert sum("Content Security Policy" in line for line in browser.console) >= 2
