"""The shape of the code: imports point down, files and functions stay small."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(
    path for folder in ("dinorl", "hydra_plugins", "tests", "docs") for path in (ROOT / folder).rglob("*.py")
)
LONGEST_FILE, LONGEST_FUNCTION = 450, 60  # lines


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


def test_imports_point_down() -> None:
    script = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run([sys.executable, "-c", script, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_picture_shows_every_package() -> None:
    picture, page = ((ROOT / "docs" / f"architecture.{kind}").read_text() for kind in ("svg", "md"))
    for package in (ROOT / "dinorl").glob("*/__init__.py"):
        assert f">{package.parent.name}<" in picture and f"`dinorl.{package.parent.name}`" in page


def test_files_are_short() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in FILES}
    assert not {name: length for name, length in lengths.items() if length > LONGEST_FILE}


def test_functions_fit_a_screen() -> None:
    lengths = {
        f"{path.relative_to(ROOT)}:{one.lineno} {one.name}": (one.end_lineno or one.lineno) - one.lineno + 1
        for path in FILES
        for one in functions(ast.parse(path.read_text()))
    }
    assert not {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION}


def test_text_files_are_utf8() -> None:
    """In a locale without ``±``, a log line with it was lost."""
    unnamed = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in (ROOT / "dinorl").rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and _opens_text(call) and not any(k.arg == "encoding" for k in call.keywords)
    ]
    assert not unnamed


def _opens_text(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    words = [argument.value for argument in call.args if isinstance(argument, ast.Constant)]
    opened = name == "open" and any(isinstance(word, str) and set(word) <= set("rwa+") for word in words)
    return name in ("read_text", "write_text", "FileHandler") or opened
