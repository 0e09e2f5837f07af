"""What lies in a run folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

STATUS_FILE, LOG_FILE = "status.json", "train.log"
META = "meta.json"
SPOOL, SENT = "tracking.jsonl", "tracking.sent"


def read_status(folder: Path) -> dict[str, Any] | None:
    """Return what a run folder says of its run, or None if it says nothing (yet)."""
    try:
        status: dict[str, Any] = json.loads((folder / STATUS_FILE).read_text())
    except (OSError, ValueError):
        return None
    return status


def write_status(folder: Path, **status: Any) -> dict[str, Any]:
    """Write ``status.json``, as a whole or not at all, and return its content."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / STATUS_FILE, status)
    return status


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file as a whole or not at all."""
    building = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        building.write_text(json.dumps(content, indent=2, default=str) + "\n")
        os.replace(building, path)
    finally:
        building.unlink(missing_ok=True)
