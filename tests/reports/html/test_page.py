"""One file that holds everything and asks for nothing."""

import base64
import hashlib
import html
import re

import pytest
from made_runs import made_run, made_runs

from embpress.dlrm.runs.record import Run
from embpress.reports import write_report
from embpress.reports.html.page import page

HOSTILE = "<script>document.title='x'</script>\"'`|&اسم"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_report(folder, made_runs(5, 2, (16.0,)), html=True)
    return folder


def words(text):
    return re.findall(r"\w+", html.unescape(re.sub(r"<[^>]+>", " ", text)))


def test_everything_of_the_markdown_is_there(folder):
    text, shown = (
        (folder / "report.md").read_text(encoding="utf-8"),
        (folder / "report.html").read_text(encoding="utf-8"),
    )
    titles = re.findall(r"^## (.*)$", text, re.M)
    assert [html.unescape(title) for title in re.findall(r"<h2>(.*?)</h2>", shown) if title != "Details"] == titles
    body = shown.partition("<body>")[2]
    missing = set(words(re.sub(r"!\[.*?\]\(plots/\S+\)|^\|[ :|-]+\|$|```sh", " ", text, flags=re.M))) - set(words(body))
    assert missing == set()
    assert re.findall(r'class="plot" role="group" tabindex="0" aria-label="([^"]+)"', shown) == re.findall(
        r"!\[(.*?)\]", text
    )
    assert shown.count("<svg") == text.count("](plots/") == 3
    assert "<img" not in shown
    before, _, after = shown.partition('id="details"')
    assert "<details" not in before
    assert '<section id="results">' in before
    assert '<details id="environment">' in after


def test_nothing_is_asked_for(folder):
    shown = (folder / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href|action|url)\s*[=(]\s*["']?(?!#|data:)[\w/.]""", shown)
    assert "http:" not in shown.replace("http-equiv", "")
    assert "@import" not in shown
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', shown)[1]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data:"
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", shown, re.S)
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert len(scripts) == 1
    assert rules["script-src"] == f"'sha256-{digest}'"


def test_the_same_again_and_made_anew_with_the_report(folder, tmp_path):
    runs = made_runs(5, 2, (16.0,))
    write_report(tmp_path, list(reversed(runs)), html=True)
    assert (tmp_path / "report.html").read_bytes() == (folder / "report.html").read_bytes()
    write_report(tmp_path, [*runs, made_run("dhe", 0, 16.0, 0.7)])  # one that is there tells of no other runs
    assert "dhe" in (tmp_path / "report.html").read_text(encoding="utf-8")
    (tmp_path / "report.html").unlink()
    write_report(tmp_path, runs)
    assert not (tmp_path / "report.html").exists()


def test_names_from_data_are_text(tmp_path):
    odd = made_run("full", 0, None, 0.74).to_json()
    odd["data"]["name"] = HOSTILE
    odd["data"]["features"][0] = odd["tables"][0]["feature"] = HOSTILE
    odd["environment"]["cpu"] = odd["command"] = HOSTILE
    failed = {**odd, "method": f"hash:{HOSTILE}", "name": "hash", "is_full": False, "status": "failed"}
    failed |= {"reason": HOSTILE, "metrics": {}}
    named = {**odd, "method": HOSTILE, "name": HOSTILE, "is_full": False, "asked": {"ratio": 4.0}}
    write_report(tmp_path, [Run.from_json(run) for run in (odd, failed, named)], html=True)
    shown = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert shown.count("<script") == shown.count("</script>") == 1
    assert shown.count("&lt;script&gt;document.title") > 20
    for attribute in re.findall(r'="([^"]*)"', shown):
        assert "<" not in attribute


def test_further_pages_stand_inside_and_pictures_without_a_drawing_too(tmp_path):
    text = "# R\n\n## More pages\n\n- [Ranks](ranks.md): about\n\n![P](plots/p.png)\n"
    more = "# Ranks\n\nintro\n\n## More pages\n\ninside\n"
    shown = page(text, {"plots/p.png": "data:image/png;base64,AAAA"}, pages={"ranks.md": more})
    assert '<a href="#page-ranks">Ranks</a>' in shown
    assert '<details id="page-ranks">' in shown
    assert '<img src="data:image/png;base64,AAAA" alt="">' in shown
    ids = re.findall(r'\bid="([^"]+)"', shown)
    assert len(set(ids)) == len(ids)
