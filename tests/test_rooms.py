"""The layout of the package: which room may import which, and that nothing lives beside the rooms."""

import ast
from graphlib import CycleError, TopologicalSorter

import pytest
from builders import ROOT

PACKAGE = ROOT / "toxicity"
# From the lowest up. A room imports rooms on floors below its own; `.` are the doors, modules that only open a room.
FLOORS = [
    ["core"],
    ["data", "hardware", "evaluation"],
    ["models"],
    ["training", "predict", "bench"],
    ["report"],
    ["hub"],
    ["serve"],
    ["."],
]
DOORS = {"__init__", "audit", "launch", "match", "probe"}


def imports_of(path):
    """Modules of the package that a file imports, wherever in it, what only type checkers see included."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("toxicity"))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written out from `toxicity` on"
            if (node.module or "").split(".")[0] == "toxicity":
                for alias in node.names:
                    module = f"{node.module}.{alias.name}"
                    yield module if is_module(module) else node.module


def is_module(name):
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or path.is_dir()


def module_name(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room_of(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and (PACKAGE / parts[1]).is_dir() else "."


MODULES = sorted(PACKAGE.rglob("*.py"))
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def test_every_room_has_its_floor():
    assert {room_of(module_name(path)) for path in MODULES} == set(FLOOR_OF)


def test_nothing_lies_beside_the_doors():
    assert {path.stem for path in PACKAGE.glob("*.py")} == DOORS


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_room_imports_only_floors_below(path):
    room = room_of(module_name(path))
    for module in imports_of(path):
        other = room_of(module)
        assert other == room or FLOOR_OF[other] < FLOOR_OF[room], f"{module_name(path)} imports {module}"


def test_no_modules_import_each_other_in_a_circle():
    graph = {module_name(path): set(imports_of(path)) for path in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' imports '.join(reversed(error.args[1]))}")


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("test_*.py")), ids=lambda path: path.stem)
def test_no_test_module_imports_another(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert not [name for name in names if name and name.split(".")[-1].startswith("test_")]
