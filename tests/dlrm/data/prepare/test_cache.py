"""Files that are prepared by themselves and found again by what they hold."""

import os
import subprocess
import sys
import threading

import polars as pl
import pytest
from criteo_lines import lines, write

from embpress.compressors.errors import InputError
from embpress.dlrm.data import load, loading
from embpress.dlrm.data.prepare import cache as cache_module
from embpress.dlrm.data.prepare.cache import cached


@pytest.fixture
def text(tmp_path):
    return write(tmp_path / "a.txt", "".join(lines(60)))


@pytest.fixture
def place(tmp_path):
    return tmp_path / "cache"


def folders(place):
    return sorted(path.name for path in place.iterdir() if not path.name.startswith("."))


def test_it_holds_what_load_gives_and_is_found_again(text, place):
    folder, new = cached([text], place, min_count=3)
    assert new
    assert load(folder).fingerprint == load(text, min_count=3).fingerprint
    assert cached([text], place, min_count=3) == (folder, False)
    assert cached([text], place, min_count=3, split="order", number_ids="frequency") == (folder, False)  # the defaults
    assert folders(place) == [folder.name]


@pytest.mark.parametrize(
    "options",
    [{"min_count": 1}, {"split": "random"}, {"rows": 50}, {"drop_negatives": 0.5}, {"number_ids": "random"}],
    ids=str,
)
def test_other_options_are_other_data(text, place, options):
    plain, _ = cached([text], place)
    folder, new = cached([text], place, **options)
    assert new
    assert folder != plain
    assert load(folder).fingerprint == load(text, **options).fingerprint


def test_moved_files_are_the_same_and_changed_ones_others(tmp_path, text, place):
    folder, _ = cached([text], place)
    (tmp_path / "moved").mkdir()
    copy = write(tmp_path / "moved" / "a.txt", text.read_text())
    assert cached([copy], place) == (folder, False)
    later = text.stat().st_mtime_ns
    write(text, "".join(lines(60, seed=1)))
    os.utime(text, ns=(later, later))  # of the old age and, as it happens, perhaps of the old size
    other, new = cached([text], place)
    assert new
    assert load(other).fingerprint == load(text).fingerprint != load(folder).fingerprint


def test_folders_that_hold_columns_count(tmp_path, place):
    """The same files in other `column=value` folders are other data."""
    for k in range(2):
        (tmp_path / f"h/day={k}").mkdir(parents=True)
        rows = pl.DataFrame({"label": [0, 1] * 30, "id": [j % (3 + k) for j in range(60)]})
        rows.write_parquet(tmp_path / f"h/day={k}" / "p.parquet")
    first, _ = cached([tmp_path / "h"], place, label="label")
    (tmp_path / "h/day=1").rename(tmp_path / "h/day=7")
    second, new = cached([tmp_path / "h"], place, label="label")
    assert new
    assert first != second


def test_a_test_file_counts_as_one_and_in_its_place(tmp_path, text, place):
    other = write(tmp_path / "b.txt", "".join(lines(40, seed=1)))
    made = {cached([text], place, test=[other])[0], cached([text, other], place)[0], cached([other, text], place)[0]}
    assert len(made) == 3


def test_of_two_commands_at_once_one_prepares(text, place):
    code = (
        "import sys; from embpress.dlrm.data.prepare.cache import cached;"
        "folder, new = cached([sys.argv[1]], sys.argv[2]); print(folder, new)"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", code, text, place], stdout=subprocess.PIPE, text=True) for _ in "ab"
    ]
    said = sorted(one.communicate()[0].split() for one in both)
    assert [new for _, new in said] == ["False", "True"]
    assert said[0][0] == said[1][0]
    assert len(folders(place)) == 1


def test_who_waits_says_so(text, place, monkeypatch):
    begun, go, said = threading.Event(), threading.Event(), []
    prepare = cache_module.prepare

    def slow(*args, **options):
        begun.set()
        assert go.wait(30)
        return prepare(*args, **options)

    def waiting(line):
        said.append(line)
        if "waiting" in line:
            go.set()

    monkeypatch.setattr(cache_module, "prepare", slow)
    first = threading.Thread(target=cached, args=([text], place))
    first.start()
    assert begun.wait(30)
    _, new = cached([text], place, progress=waiting)
    first.join()
    assert not new
    assert any("another command prepares these files" in line for line in said)


def test_a_file_that_changes_meanwhile_leaves_nothing(text, place, monkeypatch):
    prepare = cache_module.prepare

    def changing(*args, **options):
        prepare(*args, **options)
        with text.open("a") as file:
            file.write("".join(lines(3, seed=2)))

    monkeypatch.setattr(cache_module, "prepare", changing)
    with pytest.raises(InputError, match=r"a\.txt changed while it was read"):
        cached([text], place)
    assert folders(place) == []


def test_a_cache_that_cannot_be_is_named(text, place):
    for wrong in (text, text / "in"):
        with pytest.raises(InputError, match=r"--cache .* cannot be used"):
            cached([text], wrong)
    with pytest.raises(InputError, match="does not exist"):
        cached([text.parent / "missing.txt"], place)


def test_files_larger_than_the_memory_are_refused_before_they_are_read(text, monkeypatch):
    size = 2 * text.stat().st_size
    monkeypatch.setattr(loading, "free_bytes", lambda: size)
    load(text)
    monkeypatch.setattr(loading, "free_bytes", lambda: size - 1)
    with pytest.raises(InputError, match=r"a\.txt would take .* --cache DIR, .* embpress data prepare") as error:
        load(text)
    assert "\n" not in str(error.value)
    load(text, rows=20)  # of which nobody knows how much that is
