"""Where the runs of a page come from: dates, commits, machines, versions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from dinorl.config import ConfigError
from dinorl.files.run_folder import BundleFolder, RunFolder
from dinorl.files.untrusted import read_json
from dinorl.reports.stages import StageRecord
from dinorl.tracking.describe import NOTE
from dinorl.tracking.runs import by_id
from dinorl.tracking.spool import PARENT_TAG

UNKNOWN = "not recorded"
_COMMAND = re.compile(r"^```sh\n(.+?)\n```$", re.MULTILINE | re.DOTALL)
_SHA = 12  # characters


def facts(records: Sequence[StageRecord], uri: str) -> list[tuple[str, str]]:
    """Return names and values, as far as they are recorded.

    Args:
        records: of the page.
        uri: of the MLflow server.
    """
    begun = [datetime.fromtimestamp(record.run.started / 1000.0, UTC) for record in records]
    first, last = (f"{moment:%Y-%m-%d %H:%M}" for moment in (min(begun), max(begun)))
    versions: dict[str, list[str]] = {}
    for record in records:
        for name, version in _versions(record).items():
            versions.setdefault(name, []).append(version)
    return [
        ("command", _joined(_commands(records, uri))),
        ("begun", f"{first} UTC" if first == last else f"{first} … {last} UTC"),
        ("commit", _joined(record.run.tags.get("git_sha", "")[:_SHA] for record in records)),
        ("machine", _joined(str(record.status.get("host", "")) for record in records)),
        ("versions", ", ".join(f"{name} {_joined(each)}" for name, each in versions.items()) or UNKNOWN),
    ]


def _commands(records: Sequence[StageRecord], uri: str) -> list[str]:
    """Return the newest command of each sweep, from the note of a lineage's run."""
    newest = {
        one.run.tags["sweep"]: one.run.tags.get(PARENT_TAG) for one in sorted(records, key=lambda r: r.run.started)
    }
    parents = by_id(filter(None, newest.values()), uri)
    return [command for run in parents.values() for command in _COMMAND.findall(run.tags.get(NOTE, ""))[-1:]]


def _versions(record: StageRecord) -> dict[str, str]:
    """Return the versions that a run's best bundle was made with."""
    if record.folder is None:
        return {}
    try:
        found = read_json(BundleFolder(RunFolder(record.folder).best).meta).get("versions", {})
    except ConfigError:
        return {}
    return {str(name): str(version) for name, version in found.items()} if isinstance(found, dict) else {}


def _joined(texts: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(filter(None, texts))) or UNKNOWN
