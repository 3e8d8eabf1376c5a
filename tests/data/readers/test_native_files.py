"""Arrow gets no Python file: a thread of its own may drop the last reference to one while the interpreter exits.

The process then ends with a fatal error of the interpreter (exit code 134) instead of its own exit code.
"""

import ast
import subprocess
import sys

import pytest
from builders import ROOT
from layouts import LAYOUTS

PYTHON_OPENS = {"open", "TemporaryFile", "NamedTemporaryFile", "fdopen", "BytesIO"}


def name_of(node):
    return ast.unparse(node.func) if isinstance(node, ast.Call) else ""


@pytest.mark.parametrize("path", sorted((ROOT / "toxicity").rglob("*.py")), ids=lambda path: path.stem)
def test_arrow_opens_its_files_itself(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    opened = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.withitem) and name_of(node.context_expr).split(".")[-1] in PYTHON_OPENS:
            opened.add(getattr(node.optional_vars, "id", None))
        elif isinstance(node, ast.Assign) and name_of(node.value).split(".")[-1] in PYTHON_OPENS:
            opened.update(getattr(target, "id", None) for target in node.targets)
    for node in ast.walk(tree):
        if name_of(node).startswith(("pa.", "pyarrow.")):
            given = [*node.args, *(keyword.value for keyword in node.keywords)]
            names = {argument.id for argument in given if isinstance(argument, ast.Name)}
            assert not names & opened, f"{path.name}, line {node.lineno}: Arrow is given a Python file"
            assert not {name_of(argument).split(".")[-1] for argument in given} & PYTHON_OPENS


REFUSAL = """
import sys
from pathlib import Path
from toxicity.core.errors import RequestError, refusals_exit_cleanly
from toxicity.data.readers.files import read_files

def refuse(names, source):
    raise RequestError("refused")

def choose(names, source):
    return {name: name for name in names}

with refusals_exit_cleanly():
    for path in map(Path, sys.argv[1:]):
        read_files([path], choose)
    read_files([Path(sys.argv[-1])], refuse)
"""


@pytest.mark.long
def test_a_refusal_has_its_exit_code_every_time(tmp_path):
    names = ["c.csv", "c.csv.gz", "c.csv.zst", "c.parquet", "file.arrow", "stream.arrow", "pandas.json"]
    paths = [tmp_path / name for name in names]
    for path in paths:
        path.write_bytes(LAYOUTS[path.name])
    for number in range(60):
        command = [sys.executable, "-c", REFUSAL, *paths, paths[number % len(paths)]]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        assert (done.returncode, done.stderr) == (2, "error: refused\n")
