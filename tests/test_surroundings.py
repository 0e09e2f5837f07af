"""The quick rows of :mod:`surroundings`."""

from __future__ import annotations

from pathlib import Path

import pytest
from surroundings import ROWS, Row, check


@pytest.mark.parametrize("row", [row for row in ROWS if row.quick], ids=lambda row: row.name)
@pytest.mark.usefixtures("made_store")
def test_surroundings_decide_nothing(row: Row, tmp_path: Path) -> None:
    check(row, tmp_path)
