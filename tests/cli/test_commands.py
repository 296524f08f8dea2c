"""The door for commands: a file that is added is one, and help reads it without importing it."""

import re
import subprocess
import sys

HELLO = '''
"""`embpress hello`."""
import click
print("imported")

@click.command(name="hello")
def command():
    """Say hello.

    At length."""
    click.echo("hello you")
'''
RUN = """
import sys
import embpress.cli
embpress.cli.__path__.append(sys.argv.pop(1))
from embpress.cli.main import main
main()
"""


def test_a_command_in_a_folder(tmp_path):
    (tmp_path / "hello.py").write_text(HELLO)
    (tmp_path / "hello_part.py").write_text(HELLO)  # a part of a command

    def call(*arguments):
        command = [sys.executable, "-c", RUN, str(tmp_path), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    shown = call("--help")
    assert re.search(r"(?m)^  hello +Say hello\.$", shown)
    assert "imported" not in shown
    assert "hello_part" not in shown
    assert call("hello") == "imported\nhello you\n"
    assert "hello" not in [module.split(".")[-1] for module in sys.modules if module.startswith("embpress.cli")]
