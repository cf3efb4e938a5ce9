"""The rules of the house that a test can hold, read off the sources with the standard library's ``ast``."""

import ast
import builtins
import re
import subprocess
import symtable
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from functools import cache, wraps
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "partrm"
MODULES = {".".join(p.relative_to(SOURCE.parent).with_suffix("").parts): p for p in sorted(SOURCE.rglob("*.py"))}
MODULES = {name.removesuffix(".__init__"): path for name, path in MODULES.items()}


@cache
def trees() -> dict[str, ast.Module]:
    """The syntax tree of each module."""
    return {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


@cache
def nodes(name: str) -> list[ast.AST]:
    """All nodes of a module."""
    return list(ast.walk(trees()[name]))


MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
MAX_FOLDER_FILES = 17
MAX_LOOSE_FILES = 4
LAYERS = (
    "__main__",
    "cli",
    "commands",
    "jobs",
    "api",
    "robotics",
    "evaluation",
    "viewer",
    "paper",
    "training",
    "datasets",
    "synthesis",
    "inference",
    "rendering",
    "model",
    "procedural",
    "assets",
    "objects",
    "metrics",
    "imaging",
    "geometry",
    "files",
    "errors",
)
"""Data flows down: a module imports only from what stands below it here."""

HEAVY = {"gsplat", "warp", "bpy", "viser", "mujoco"}
IMPORT_NAMES = {
    "pillow": "PIL",
    "imageio-ffmpeg": "imageio_ffmpeg",
    "opencv-python-headless": "cv2",
    "huggingface-hub": "huggingface_hub",
}


def imported_modules(nodes: Iterable[ast.AST], name: str) -> set[str]:
    """Absolute dotted names that ``nodes`` (of module ``name``) import, relative imports resolved."""
    found: set[str] = set()
    package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    for node in nodes:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1] + base.split("."))
            base = base.strip(".")
            names = [f"{base}.{alias.name}" for alias in node.names]
            # ``from package import module`` needs the module; the package around it is no dependency of its own.
            found.update(name if name in MODULES else base for name in names)
    return found


def run_at_import(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below ``node`` that run when its module is imported: no function bodies, nothing for types alone."""
    typing_only = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    if not typing_only and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        yield node
        for child in ast.iter_child_nodes(node):
            yield from run_at_import(child)


@cache
def imports() -> dict[str, set[str]]:
    """All imports of each module, those inside functions too."""
    return {name: imported_modules(nodes(name), name) for name in MODULES}


@cache
def top_imports() -> dict[str, set[str]]:
    """What importing each module imports."""
    return {name: imported_modules(run_at_import(tree), name) for name, tree in trees().items()}


def layer(name: str) -> str:
    return name.split(".")[1]


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function from ``def`` to its end, the docstring not counted."""
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        assert first.end_lineno is not None
        lines -= first.end_lineno - first.lineno + 1
    return lines


def closure(start: str) -> set[str]:
    """Modules of partrm that importing ``start`` loads, packages' ``__init__`` included."""
    seen: set[str] = set()
    todo = {start}
    while todo:
        name = todo.pop()
        seen.add(name)
        parents = {".".join(name.split(".")[:i]) for i in range(1, name.count(".") + 1)}
        todo |= ({m for m in top_imports()[name] if m in MODULES} | parents) - seen
    return seen


def of_every_module(breaches: Callable[[str], Iterable]) -> Callable[[], None]:
    """A test that ``breaches`` finds none in any module; it names all of them."""

    @wraps(breaches, assigned=("__name__", "__doc__"), updated=())
    def test() -> None:
        found = {name: list(breaches(name)) for name in MODULES}
        assert {name: wrong for name, wrong in found.items() if wrong} == {}

    del test.__wrapped__  # pytest would read its arguments
    return test


def test_files_are_short():
    files = [*SOURCE.rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {path: n for path, n in lines.items() if n > MAX_FILE_LINES} == {}


@of_every_module
def test_functions_are_short(name):
    functions = [n for n in nodes(name) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [f"{f.name}: {code_lines(f)} lines" for f in functions if code_lines(f) > MAX_FUNCTION_LINES]


@of_every_module
def test_names_say_what_is_inside(name):
    return set(re.split(r"[._]", name)) & {"utils", "util", "misc", "helpers", "helper", "common"}


def test_folders_are_at_most_two_deep():
    assert not [path for path in MODULES.values() if len(path.relative_to(SOURCE).parts) > 3]


def test_every_module_stands_in_a_layer():
    unplaced = [name for name in MODULES if name != "partrm" and layer(name) not in LAYERS]
    assert not unplaced, "say where the new module stands in LAYERS"


@of_every_module
def test_modules_import_only_what_stands_below(name):
    if name == "partrm":
        return []
    ours = {m for m in imports()[name] if m.startswith("partrm.")}
    return {m for m in ours if LAYERS.index(layer(m)) < LAYERS.index(layer(name))}


def test_folders_are_small():
    folders = {path.parent for path in MODULES.values()}
    inside = {f.relative_to(SOURCE).as_posix(): [p for p in f.glob("*.py") if p.stem[:2] != "__"] for f in folders}
    sizes = {name: len(files) for name, files in inside.items()}
    assert sizes.pop(".") <= MAX_LOOSE_FILES, "loose files beside __init__ and __main__"
    sizes.pop("procedural")  # one file a family
    assert not {name: n for name, n in sizes.items() if n > MAX_FOLDER_FILES}


@of_every_module
def test_names_come_from_where_they_are_defined(name):
    """A package's ``__init__`` may gather names; no other module passes on what it has imported."""
    wrong = []
    for node in nodes(name):
        if isinstance(node, ast.ImportFrom) and node.module in MODULES and MODULES[node.module].name != "__init__.py":
            own = trees()[node.module].body
            passed = {a.asname or a.name for n in own if isinstance(n, ast.Import | ast.ImportFrom) for a in n.names}
            wrong += [f"{node.module}.{a.name}" for a in node.names if a.name in passed]
    return wrong


PACKAGES = {path.name for path in SOURCE.iterdir() if (path / "__init__.py").is_file()}
OTHER_TESTS = {"support", "golden", "benchmarks", "fuzz", "examples", "docs"}
"""Folders of tests that mirror no package."""
LOOSE_MODULES = {f"test_{path.stem}.py" for path in SOURCE.glob("*.py")}
LOOSE_TESTS = {"conftest.py", "test_architecture.py", "test_bare_install.py", "test_base_weights.py", "test_docs.py"}
"""Tests of the package as a whole."""


def test_tests_lie_where_the_code_lies():
    tests = ROOT / "tests"
    files = [path.relative_to(tests) for path in tests.rglob("*.py")]
    misplaced = [path for path in files if path.parts[0] not in PACKAGES | OTHER_TESTS and len(path.parts) > 1]
    loose = {path.name for path in files if len(path.parts) == 1}
    assert not misplaced
    assert not loose - LOOSE_MODULES - LOOSE_TESTS, "these belong into the folder of the package that they test"


def scopes(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    """A scope and all within it."""
    yield table
    for child in table.get_children():
        yield from scopes(child)


@of_every_module
def test_functions_use_only_names_that_exist(name):
    """The linters cannot say: dimension strings of jaxtyping look like undefined names to them."""
    module = symtable.symtable(MODULES[name].read_text(encoding="utf-8"), str(MODULES[name]), "exec")
    inner = [s for scope in scopes(module) if scope is not module for s in scope.get_symbols() if s.is_global()]
    known = {s.get_name() for s in module.get_symbols() if s.is_assigned() or s.is_imported()}
    known |= {s.get_name() for s in inner if s.is_assigned()}
    used = {s.get_name() for s in inner if s.is_referenced()}
    return used - known - set(dir(builtins)) - {"__file__", "__name__"}


def test_no_import_cycle():
    # The root package loads its names only when they are asked for.
    below = set(MODULES) - {"partrm"}
    graph = {name: {m for m in imports()[name] if m in below and m != name} for name in below}
    done: set[str] = set()
    while ready := {name for name, needs in graph.items() if name not in done and needs <= done}:
        done |= ready
    assert set(graph) == done, f"a cycle among (or above) {sorted(set(graph) - done)}"


@of_every_module
def test_dataclasses_are_frozen(name):
    """Values are frozen; only a ``…Builder``, which gathers one value piece by piece, may change."""
    loose = []
    for node in nodes(name):
        if isinstance(node, ast.ClassDef) and not node.name.endswith("Builder"):
            written = [ast.unparse(d) for d in node.decorator_list]
            loose += [
                node.name for d in written if re.match(r"(dataclasses\.)?dataclass\b", d) and "frozen=True" not in d
            ]
    return loose


@of_every_module
def test_no_hidden_inputs(name):
    """No environment variables, but of a launcher that says nothing otherwise and defaults for other packages, and no
    module globals that functions rebind."""
    rebound = [name for n in nodes(name) if isinstance(n, ast.Global) for name in n.names]
    if name == "partrm.training.torchrun":
        return rebound
    found = [n for n in nodes(name) if isinstance(n, ast.Attribute)]
    defaults = [n.value for n in found if n.attr == "setdefault"]
    attributes = {n.attr for n in found if n not in defaults}
    return [*rebound, *(attributes & {"environ", "getenv", "putenv"})]


@of_every_module
def test_no_swallowed_exceptions(name):
    def swallows(handler: ast.ExceptHandler) -> bool:
        broad = handler.type is None or ast.unparse(handler.type) in {"Exception", "BaseException"}
        silent = all(isinstance(n, ast.Pass | ast.Continue) for n in handler.body)
        logged = any(isinstance(n, ast.Attribute) and n.attr == "exception" for n in ast.walk(handler))
        answered = any(isinstance(n, ast.Raise | ast.Return) for n in ast.walk(handler))
        return silent or (broad and not answered and not logged)

    return [h.lineno for h in nodes(name) if isinstance(h, ast.ExceptHandler) and name != "partrm.cli" and swallows(h)]


def test_every_error_is_a_partrm_error():
    """Users write ``except PartRMError``; and no two of its children have one name."""
    classes = [node for name in MODULES for node in nodes(name) if isinstance(node, ast.ClassDef)]
    bases = {c.name: {ast.unparse(b) for b in c.bases} for c in classes}
    errors = {name for name, of in bases.items() if any(b.endswith(("Error", "Exception")) for b in of)}
    ours, names = {"PartRMError"}, [c.name for c in classes if c.name in errors]
    while grown := {name for name in errors if bases[name] & ours} - ours:
        ours |= grown
    assert errors == ours
    assert sorted(names) == sorted(set(names))


@of_every_module
def test_images_are_opened_by_a_list_of_formats(name):
    calls = [n for n in nodes(name) if isinstance(n, ast.Call) and ast.unparse(n.func) == "Image.open"]
    return [c.lineno for c in calls if not any(k.arg == "formats" for k in c.keywords)]


def test_root_package_imports_no_backend():
    code = f"import sys, partrm; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=SOURCE.parent)
    assert done.stdout.strip() == ""


def test_photographs_are_opened_without_pytorch():
    """Beside its import: a thread that imported it too would wait for it."""
    modules = "partrm.imaging.photos", "partrm.imaging.grabcut", "partrm.geometry.drag_numbers"
    needed = {(name, m.split(".")[0]) for module in modules for name in closure(module) for m in top_imports()[name]}
    assert not {name for name, package in needed if package in ("torch", "einops")}


@pytest.mark.parametrize("entry", ["partrm.api", "partrm.cli", "partrm.inference.pipeline", "partrm.paper.verify"])
def test_predict_needs_only_the_runtime_dependencies(entry):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wheels = {re.split(r"[<>=!~;\[ ]", d)[0].lower().replace("_", "-") for d in project["dependencies"]}
    allowed = {IMPORT_NAMES.get(w, w) for w in wheels} | {"partrm"} | set(sys.stdlib_module_names)
    needed = {(name, m.split(".")[0]) for name in closure(entry) for m in top_imports()[name]}
    assert not {(name, package) for name, package in needed if package not in allowed}


UNBOUNDED = {"torch"}
"""Private names of it (``_dynamo.config``, ``_foreach_lerp_``) have long stayed, and the training tests call them."""


def private_names(tree: ast.AST) -> dict[str, set[str]]:
    """By top-level package: its private names that a module imports or reads off the imported package."""
    found: dict[str, set[str]] = {}
    packages: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            packages |= {(a.asname or a.name).split(".")[0]: a.name.split(".")[0] for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            parts = [*node.module.split("."), *(alias.name for alias in node.names)]
            found.setdefault(parts[0], set()).update(p for p in parts[1:] if p.startswith("_"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            root = node.value
            while isinstance(root, ast.Attribute):
                root = root.value
            if isinstance(root, ast.Name) and root.id in packages:
                found.setdefault(packages[root.id], set()).add(node.attr)
    return {package: names for package, names in found.items() if names}


def test_packages_whose_private_names_are_used_have_an_upper_bound():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    bounded = {re.split(r"[^\w.-]", r)[0] for r in wanted if "<" in r}
    used: dict[str, set[str]] = {}
    for tree in trees().values():
        for package, names in private_names(tree).items():
            if package != "partrm" and package not in sys.stdlib_module_names:
                used.setdefault(package, set()).update(names)
    assert {"viser", "tyro", "torch"} <= set(used)
    assert {package: names for package, names in used.items() if package not in bounded | UNBOUNDED} == {}
