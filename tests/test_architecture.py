"""The architecture holds: imports go one way, core decides and never acts, and every file fits a reader's head.

Every rule here is a sentence of docs/develop.md. The sources are read, never imported.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = {"web": ("web", "gateway"), "gateway": ("gateway", "storage"), "storage": ("storage",)}
"""What a folder may import of ours. gateway/__main__.py alone sees all three."""
ROOT_OF_ALL = "gateway.__main__"
MOST_LINES, MOST_FUNCTION_LINES = 400, 40


@dataclass(frozen=True)
class Module:
    path: Path
    name: str
    source: str
    tree: ast.Module

    def __str__(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def layer(self) -> str:
        return self.name.partition(".")[0]

    def inside(self, *packages: str) -> bool:
        return any(self.name == package or self.name.startswith(f"{package}.") for package in packages)


def _modules(*folders: str) -> list[Module]:
    found = []
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            source = path.read_text("utf-8")
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found.append(Module(path, name, source, ast.parse(source)))
    return found


CODE = _modules("gateway", "storage", "web")
TESTS = _modules("tests")
CORE = [module for module in CODE if module.inside("gateway.core")]


def imported(module: Module) -> Iterator[tuple[int, str]]:
    """(line, full dotted name) of everything a module imports, wherever it does: at the top, in functions, for types."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: relative imports hide the arrows"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def _is(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _none(wrong: list[str]) -> None:
    assert not wrong, "\n" + "\n".join(wrong)


def _only(package: str, *places: str, among: list[Module]) -> None:
    """*package* is imported by modules inside *places* alone."""
    _none(
        [
            f"{module}:{line} imports {name}; only {', '.join(places)} may"
            for module in among
            if not module.inside(*places)
            for line, name in imported(module)
            if _is(name, package)
        ]
    )


def test_there_is_something_to_look_at() -> None:
    assert {module.layer for module in CODE} == {"gateway", "storage", "web"}
    assert len(CODE) > 50
    assert len(CORE) > 10


def test_imports_go_one_way() -> None:
    wrong = []
    for module in CODE:
        for line, name in imported(module):
            layer = name.partition(".")[0]
            allowed = tuple(LAYERS) if module.name == ROOT_OF_ALL else LAYERS[module.layer]
            if layer == "tests" or (layer in LAYERS and layer not in allowed):
                wrong.append(f"{module}:{line} imports {name}")
    _none(wrong)


def test_nobody_imports_the_composition_root() -> None:
    _none([f"{m}:{line}" for m in CODE for line, name in imported(m) if _is(name, ROOT_OF_ALL)])


def test_core_is_standard_library_alone() -> None:
    import sys

    wrong = []
    for module in CORE:
        for line, name in imported(module):
            top = name.partition(".")[0]
            if not (_is(name, "gateway.core") or (top in sys.stdlib_module_names and top not in _ACTING)):
                wrong.append(f"{module}:{line} imports {name}")
    _none(wrong)


_ACTING = {
    "asyncio", "ftplib", "glob", "http", "io", "logging", "mmap", "multiprocessing", "os", "pathlib", "random",
    "secrets", "select", "selectors", "shutil", "signal", "smtplib", "socket", "socketserver", "sqlite3", "ssl",
    "subprocess", "tempfile", "threading", "time", "tomllib", "uuid", "warnings",
}  # fmt: skip
"""Modules of the standard library that ask a clock, the system, chance or the network."""
_CLOCK_CALLS = {"now", "utcnow", "today"}
_ACTING_NAMES = {"open", "print", "input", "exec", "eval", "breakpoint", "__import__"}


def test_core_has_no_clock_and_no_io() -> None:
    wrong = []
    for module in CORE:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Attribute) and node.attr in _CLOCK_CALLS and _about_time(node.value):
                wrong.append(f"{module}:{node.lineno} asks a clock: .{node.attr}")
            elif isinstance(node, ast.Name) and node.id in _ACTING_NAMES and isinstance(node.ctx, ast.Load):
                wrong.append(f"{module}:{node.lineno} acts: {node.id}")
    _none(wrong)


def _about_time(node: ast.expr) -> bool:
    """Whether an expression is the class datetime or date, as `datetime` or `datetime.datetime`."""
    return (node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else "") in (
        "datetime",
        "date",
    )


def test_only_the_register_reaches_letters_and_ledger() -> None:
    outside = [module for module in CODE if module.layer != "storage"]
    _only("storage.letters", "gateway.register", among=outside)
    _only("storage.ledger", "gateway.register", among=outside)
    _only("storage.tables", "storage", among=CODE)


@pytest.mark.parametrize(
    ("package", "places"),
    [
        ("tortoise", ("storage",)),
        ("aiosqlite", ("storage",)),
        ("sqlite3", ("storage",)),
        ("asyncpg", ("storage",)),
        ("aiosmtplib", ("gateway.dispatch",)),
        ("gnupg", ("gateway.proof", "gateway.intake")),
        ("aiosmtpd", ("gateway.intake", "gateway.demo.mailbox")),
        ("dkim", ("gateway.dispatch", "gateway.intake")),
        ("apscheduler", ("gateway.timers",)),
        ("click", ("gateway.cli", "gateway.commands", "gateway.letter_commands", "gateway.demo.command")),
        ("pyhanko", ("gateway.proof",)),
        ("typst", ("gateway.proof",)),
        ("starlette", ("web",)),
        ("uvicorn", ("web",)),
        ("jinja2", ("web", "gateway.dispatch")),
    ],
)
def test_each_library_has_its_room(package: str, places: tuple[str, ...]) -> None:
    _only(package, *places, among=CODE)


def test_identified_is_made_in_identity_alone() -> None:
    wrong = [
        f"{module}:{node.lineno}"
        for module in CODE
        if not module.inside("gateway.identity")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Identified"
    ]
    _none(wrong)


def test_the_system_clock_is_asked_in_clocks_alone() -> None:
    """Whoever needs the time is handed a Clock: else the demo and the tests would lie. The demo's own people live outside."""
    wrong = []
    for module in CODE:
        # An identifier holds an instant for its order alone: nobody reads it as a time.
        if module.inside("gateway.clock", "gateway.watch", "gateway.demo", "storage.ids"):
            continue
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.Attribute):
                continue
            asks = node.attr in _CLOCK_CALLS and _about_time(node.value)
            if asks or ast.unparse(node) in ("time.time", "time.time_ns"):
                wrong.append(f"{module}:{node.lineno} asks the system's clock: {ast.unparse(node)}")
    _none(wrong)


def test_print_is_for_what_a_command_was_asked() -> None:
    allowed = ("gateway.cli", "gateway.commands", "gateway.demo", "gateway.ready")
    wrong = []
    for module in CODE:
        for function, call in _calls_of_print(module):
            if not module.inside(*allowed) or (module.inside("gateway.ready") and function != "announce"):
                wrong.append(f"{module}:{call.lineno} prints")
    _none(wrong)


def _calls_of_print(module: Module) -> Iterator[tuple[str, ast.Call]]:
    """(innermost function, call) of every print."""

    def walk(node: ast.AST, function: str) -> Iterator[tuple[str, ast.Call]]:
        for child in ast.iter_child_nodes(node):
            name = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else function
            if isinstance(child, ast.Call) and isinstance(child.func, ast.Name) and child.func.id == "print":
                yield function, child
            yield from walk(child, name)

    yield from walk(module.tree, "")


def test_every_module_says_what_it_is_for() -> None:
    wrong = [
        str(module)
        for module in CODE + TESTS
        if module.source.strip() and not (ast.get_docstring(module.tree) or "").strip()
    ]
    _none(wrong)


def test_files_stay_small() -> None:
    """Tests are read one by one, and a first migration is as long as the schema."""
    wrong = []
    for module in CODE:
        if module.inside("storage.migrations"):
            continue
        lines = module.source.count("\n")
        if lines >= MOST_LINES:
            wrong.append(f"{module}: {lines} lines")
    _none(wrong)


def test_functions_stay_small() -> None:
    """From `def` to the end; decorators and the functions inside a function count as what they are: lines to read."""
    wrong = []
    for module in CODE:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines >= MOST_FUNCTION_LINES:
                    wrong.append(f"{module}:{node.lineno} {node.name}: {lines} lines")
    _none(wrong)


def test_nothing_happens_at_import() -> None:
    """Module level holds definitions and constants: no loops over files, no calls for their effect.

    Registering a command (a decorator) and `if __name__ == "__main__"` are what modules are for.
    """
    definitions = (
        ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.If,
    )  # fmt: skip
    wrong = []
    for module in CODE:
        for node in module.tree.body:
            text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            if not (isinstance(node, definitions) or text):
                wrong.append(f"{module}:{node.lineno}: {ast.unparse(node).splitlines()[0]}")
            if isinstance(node, ast.If) and ast.unparse(node.test) not in ("TYPE_CHECKING", "__name__ == '__main__'"):
                wrong.append(f"{module}:{node.lineno}: if {ast.unparse(node.test)}")
    _none(wrong)
