"""Run folders: every file is described, writes are whole, locks end with their process."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import multiprocessing.synchronize
import os
import signal
from pathlib import Path

import pytest

from dinorl.files.run_folder import BundleFolder, RunFolder, locked, tidy, whole_file, whole_folder, write_text


def test_run_files_are_described(stage_run: Path) -> None:
    run = {entry.name for entry in RunFolder.entries().values()}
    assert {path.name for path in stage_run.iterdir()} <= run
    assert {"tracking.jsonl", "tracking.sent"} <= run  # it is a tracked folder too
    bundle = {entry.name for entry in BundleFolder.entries().values()}
    for folder in RunFolder(stage_run).bundles.iterdir():
        assert {path.name for path in folder.iterdir()} <= bundle
    assert RunFolder(stage_run).best == stage_run / "bundle" / "best"


def test_failed_write_keeps_old_file(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    write_text(path, "old")
    with pytest.raises(OSError), whole_file(path) as building:
        building.write_text("half")
        raise OSError(errno.ENOSPC, "disk full")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    write_text(path, "new")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_failed_write_keeps_old_folder(tmp_path: Path) -> None:
    path = tmp_path / "best"
    for text in ("old", "new"):
        with whole_folder(path) as building:
            (building / text).touch()
        assert [file.name for file in path.iterdir()] == [text]
    with pytest.raises(OSError), whole_folder(path) as building:
        raise OSError(errno.ENOSPC, "disk full")
    assert [file.name for file in path.iterdir()] == ["new"] and list(tmp_path.iterdir()) == [path]


def test_tidy_restores_replaced_folder(tmp_path: Path) -> None:
    """The process was killed between the two renames."""
    for name in (".best-old-12345678", ".best-87654321", "1024"):
        (tmp_path / name).mkdir()
    (tmp_path / ".0-8.npz").touch()
    tidy(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1024", "best"]


def hold(path: Path, held: multiprocessing.synchronize.Event) -> None:
    with locked(path):
        held.set()
        signal.pause()


def test_lock_ends_with_sigkill(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    holder = context.Process(target=hold, args=(tmp_path, held))
    holder.start()
    assert held.wait(60.0)
    with pytest.raises(BlockingIOError), locked(tmp_path, patience=0.1):
        pass
    holder.kill()
    holder.join()
    with locked(tmp_path):
        assert list(tmp_path.iterdir()) == [], "a lock file was left"


def test_missing_locks_are_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(descriptor: int, blocking: bool) -> bool:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("filelock.lock_descriptor", no_locks)
    with caplog.at_level(logging.WARNING), locked(tmp_path):
        pass
    assert f"{tmp_path} cannot be locked" in caplog.text
