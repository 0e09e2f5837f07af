"""Carries run folders between machines that share no folder: through any fsspec path or MLflow's artifact store.

<uri>/<key>/<sha256>                      the content of a file
<uri>/<key>/list-<number>-<sha256>.json   a folder's files; the greatest number counts, once it is whole

What was cut off while it was sent has another hash than its name, so it is never taken for whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, Protocol
from urllib.parse import urlsplit

from dinorl.config.secrets import whole
from dinorl.files.run_folder import BundleFolder, RunFolder, whole_file
from dinorl.tracking.store import client

log = logging.getLogger(__name__)

MLFLOW = "mlflow-artifacts"
DEFAULT = f"{MLFLOW}:/dinorl-bundles"  # of an MLflow server
_LIST = re.compile(r"list-(\d+)-([0-9a-f]{64})\.json")
# Written last, as whoever resumes looks for it first.
_LAST = BundleFolder.state.name


class Storage(Protocol):
    """A folder somewhere else; names have one level."""

    def names(self) -> set[str]:
        """Return the names in it; none if it does not exist."""

    def put(self, file: Path) -> None:
        """Send a file under its own name."""

    def get(self, name: str, file: Path) -> None:
        """Fetch a file."""

    def delete(self, name: str) -> None:
        """Delete a file."""


class _Fsspec:
    def __init__(self, uri: str) -> None:
        import fsspec

        self._system, self._root = fsspec.core.url_to_fs(uri)

    def names(self) -> set[str]:
        with contextlib.suppress(FileNotFoundError):
            return {str(path).rpartition("/")[2] for path in self._system.ls(self._root, detail=False, refresh=True)}
        return set()

    def put(self, file: Path) -> None:
        self._system.makedirs(self._root, exist_ok=True)
        self._system.put_file(str(file), f"{self._root}/{file.name}")

    def get(self, name: str, file: Path) -> None:
        self._system.get_file(f"{self._root}/{name}", str(file))

    def delete(self, name: str) -> None:
        self._system.rm_file(f"{self._root}/{name}")


class _MlflowArtifacts:
    def __init__(self, uri: str, tracking: str) -> None:
        client(tracking)  # sets what MLflow reads when it is imported
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        self._repository: Any = get_artifact_repository(uri, tracking_uri=whole(tracking))

    def names(self) -> set[str]:
        return {PurePosixPath(info.path).name for info in self._repository.list_artifacts()}

    def put(self, file: Path) -> None:
        self._repository.log_artifact(str(file))

    def get(self, name: str, file: Path) -> None:
        self._repository._download_file(name, str(file))

    def delete(self, name: str) -> None:
        self._repository.delete_artifacts(name)


class Depot:
    """The place of one folder outside of this machine.

    Args:
        uri: of the sweep's depot: an fsspec path, or one that begins with ``mlflow-artifacts:``.
        key: of the folder.
        tracking: uri of the MLflow server.
    """

    def __init__(self, uri: str, key: str, tracking: str) -> None:
        place = f"{uri.rstrip('/')}/{key}"
        mlflow = urlsplit(uri).scheme == MLFLOW
        self._storage: Storage = _MlflowArtifacts(place, tracking) if mlflow else _Fsspec(place)
        self._hashes: dict[tuple[int, ...], str] = {}  # of files as they were sent

    def send(self, folder: Path, steps: int = 0, only: Callable[[str], bool] = lambda name: True) -> None:
        """Send a folder's files; only what has changed travels.

        Args:
            folder: a run folder or a lineage's.
            steps: how far it is, in environment steps.
            only: of the paths, relative to the folder.

        Raises:
            FileNotFoundError: a file was deleted or replaced meanwhile.
        """
        there = self._storage.names()
        last = max((int(found[1]) for name in there if (found := _LIST.fullmatch(name))), default=0)
        with tempfile.TemporaryDirectory(prefix="dinorl-") as scratch:
            files, best = {}, _place(RunFolder(folder).best)
            for path in _whole_set(folder):
                if not only(name := path.relative_to(folder).as_posix()):
                    continue
                version = _version(path)
                if self._hashes.get(version) not in there:
                    content = _copied(path, Path(scratch))
                    self._hashes[version] = content.name
                    if content.name not in there:
                        self._storage.put(content)
                    content.unlink()
                files[name] = self._hashes[version]
            if _place(RunFolder(folder).best) != best:
                raise FileNotFoundError(f"{folder}: its best bundle was replaced")
            text = json.dumps({"steps": steps, "files": files})
            listed = Path(scratch) / f"list-{last + 1}-{_sha256(text.encode())}.json"
            listed.write_text(text, encoding="utf-8")
            self._storage.put(listed)
        for name in there - set(files.values()):
            try:
                self._storage.delete(name)
            except Exception as error:  # a store may keep everything
                log.info("%s is not deleted: %s", name, error)

    def steps(self) -> int | None:
        """Return how far the folder there is, in environment steps; None if there is none."""
        listed = self._newest()
        return None if listed is None else int(listed["steps"])

    def fetch(self, folder: Path, only: Callable[[str], bool] = lambda name: True) -> bool:
        """Write the files that differ into a folder; return whether there are any.

        Args:
            folder: is made if it is missing.
            only: of the paths, relative to the folder.

        Raises:
            OSError: a file is missing there or damaged.
            ValueError: the list there names a place outside of the folder.
        """
        listed = self._newest()
        if listed is None:
            return False
        for name, sha256 in sorted(listed["files"].items(), key=lambda item: item[0].endswith(_LAST)):
            if _outside(name):
                raise ValueError(f"{name}: not a path within a run folder")
            path = folder / name
            if only(name) and not (path.is_file() and _hash(path) == sha256):
                path.parent.mkdir(parents=True, exist_ok=True)
                with whole_file(path) as building:
                    self._get(sha256, sha256, building)
        return True

    def _newest(self) -> dict[str, Any] | None:
        lists = sorted(filter(None, map(_LIST.fullmatch, self._storage.names())), key=lambda m: int(m[1]), reverse=True)
        with tempfile.TemporaryDirectory(prefix="dinorl-") as scratch:
            for found in lists:
                with contextlib.suppress(OSError):
                    file = Path(scratch) / found[0]
                    self._get(found[0], found[2], file)
                    listed: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
                    return listed
        return None

    def _get(self, name: str, sha256: str, file: Path) -> None:
        self._storage.get(name, file)
        if _hash(file) != sha256:
            raise OSError(f"{name} was not sent whole")


def _whole_set(folder: Path) -> list[Path]:
    """Return the files of a folder, what is known about sending before what is to be sent."""
    hydra = RunFolder.hydra.name
    found = []
    for root, folders, names in os.walk(folder):
        here = Path(root)
        folders[:] = [f for f in folders if f == hydra or not f.startswith(".")]
        found += [here / name for name in names if not name.startswith(".")]
    return sorted((path for path in found if not path.is_symlink()), reverse=True)


def _place(folder: Path) -> int:
    return folder.stat().st_ino if folder.exists() else 0


def _version(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _copied(path: Path, scratch: Path) -> Path:
    """Copy a file, which may change later, to its hash's name."""
    copy = scratch / "copy"
    shutil.copyfile(path, copy)
    return copy.rename(scratch / _hash(copy))


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _outside(name: str) -> bool:
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts or "\\" in name or not path.parts
