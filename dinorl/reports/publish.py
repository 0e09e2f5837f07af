"""Logs a page to MLflow, as an artifact of its sweep's lineages."""

from __future__ import annotations

import os
import shlex

from dinorl.files.run_folder import SearchFiles, TrackedFolder
from dinorl.reports.films import MEGABYTE
from dinorl.reports.page import Page
from dinorl.tracking.lineage import close_runs
from dinorl.tracking.spool import Spool

LARGEST = 100 * MEGABYTE  # of all copies
PATIENCE = 60.0  # s


def publish(page: Page) -> str:
    """Log a page to the run of its search, or to those of its lineages while copies stay below :data:`LARGEST`.

    What cannot be sent now waits in the spool.

    Returns:
        A sentence about what was done.
    """
    if page.sweep is None:
        return "not logged to MLflow: the runs are of several sweeps, or their folder is not here"
    names = sorted({name for record in page.records for name in record.lineages})
    own = [page.sweep] if SearchFiles(page.sweep).search.exists() else [page.sweep / name for name in names]
    parents = [folder for folder in own if TrackedFolder(folder).spool.exists()]
    if not parents:
        return f"not logged to MLflow: {page.sweep} has no lineage with a run there"
    kept = parents[: max(1, LARGEST // max(1, page.path.stat().st_size))]
    for folder in kept:
        Spool(folder).append([{"artifact": os.path.relpath(page.path, folder), "folder": None}])
    waiting = close_runs({folder: ("", {}) for folder in kept}, PATIENCE)
    count = f"{len(kept)} of {len(parents)}" if len(kept) < len(parents) else f"{len(kept)}"
    what = "search's run" if parents == [page.sweep] else f"{count} lineages"
    if waiting:
        return f"the page waits for MLflow; to send it, type dinorl send {shlex.quote(str(page.sweep))}"
    return f"logged to MLflow: {page.path.name} among the artifacts of the {what}"
