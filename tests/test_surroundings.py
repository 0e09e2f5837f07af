"""The quick rows of :mod:`surroundings`."""

from __future__ import annotations

from pathlib import Path

import pytest
from surroundings import ROWS, Row, check


@pytest.mark.parametrize("row", [row for row in ROWS if row.quick], ids=lambda row: row.name)
def test_surroundings_decide_nothing(row: Row, tmp_path: Path, made_store: Path) -> None:
    own = row.status is None or row.name == "chdir"  # nobody makes one, or it must land in the right folder
    check(row, tmp_path, None if own else made_store)
