"""What a search leaves in its folder, for its page."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from dinorl.files.run_folder import SearchFiles
from dinorl.reports.films import data_uri
from dinorl.reports.tables import Table

SHOWN = 20  # best trials


@dataclass(frozen=True)
class SearchPart:
    """A search's part of a page.

    Attributes:
        trials: the best ones first.
        count: of all trials.
        importance: of the keys.
        figures: a title and a data uri each.
    """

    trials: Table
    count: int
    importance: Table
    figures: tuple[tuple[str, str], ...]


def read_search(folder: Path) -> SearchPart | None:
    """Return what a search has left so far; None if the folder is no search's."""
    files = SearchFiles(folder)
    if not files.search.exists():
        return None
    trials, importance = _read(files.trials), _read(files.importance)
    figures = (("Score over environment steps", files.scores), ("Score against each key", files.keys))
    pictures = tuple((title, data_uri("image/png", path.read_bytes())) for title, path in figures if path.exists())
    return SearchPart(Table(trials.head, trials.rows[:SHOWN]), len(trials.rows), importance, pictures)


def _read(path: Path) -> Table:
    """Return a CSV file as a table; empty if the search has not written it yet."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [tuple(row) for row in csv.reader(file) if row]
    except FileNotFoundError:
        rows = []
    return Table(tuple((title, "") for title in rows[0]) if rows else (), tuple(rows[1:]))
