"""The tool that times the input of training: it says what it measures, of all ways."""

import re
import subprocess
import sys

from paths import TOOLS


def test_it_prepares_a_file_and_times_all_ways(tmp_path):
    words = [sys.executable, TOOLS / "input_speed", "--rows", 12000, "--repeats", 1, "--steps", 2, "--folder", tmp_path]
    words = [*map(str, words), "--window", "5000"]
    out = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    assert re.findall(r"^(.*?): [\d,]+ rows/s of batches alone; a step", out, re.MULTILINE) == [
        "memory",
        "disk",
        "disk by windows",
    ]
    out = subprocess.run([*words, "--cold"], check=True, capture_output=True, text=True).stdout
    assert re.findall(r"^cold, (.*?): [\d,]+ rows/s", out, re.MULTILINE) == ["all rows mixed", "by windows"]
