"""Sphinx settings; ``make docs`` builds the pages."""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import dinorl  # noqa: E402  from this checkout

project, author, release = "dinorl", "dinorl authors", dinorl.__version__
extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "dinorl"
exclude_patterns = ["_build"]


def setup(app: Sphinx) -> None:
    """Write the reference pages before Sphinx reads its sources."""
    import _generate

    _generate.write(HERE / "reference")
