"""What a stage leaves travels whole: by content, through any fsspec path."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dinorl.bundle.bundle import Bundle
from dinorl.config import compose
from dinorl.tracking.courier import Courier, send_bundle, start_key
from dinorl.tracking.depot import Depot


def depot(tmp_path: Path, key: str = "job") -> Depot:
    return Depot(f"file://{tmp_path}/depot", key, "")


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def read(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


RUN = {"bundle/128/policy.npz": "old", "bundle/256/policy.npz": "new", "bundle/256/state.npz": "state",
       "bundle/best/policy.npz": "best", ".hydra/config.yaml": "seed: 0", "eval.csv": "1", "replay/0.npz": "replay",
       "bundle/.partial/policy.npz": "half"}  # fmt: skip
NEEDED = {name: text for name, text in RUN.items() if "partial" not in name}


def test_run_arrives_whole(tmp_path: Path) -> None:
    depot(tmp_path).send(write(tmp_path / "here", RUN), steps=256)
    assert depot(tmp_path).steps() == 256
    assert depot(tmp_path).fetch(tmp_path / "there")
    assert read(tmp_path / "there") == NEEDED
    assert depot(tmp_path, "other").steps() is None and not depot(tmp_path, "other").fetch(tmp_path / "there")


def test_only_changes_travel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = write(tmp_path / "here", RUN)
    depot(tmp_path).send(here)
    sent, again = [], depot(tmp_path)
    put = again._storage.put
    monkeypatch.setattr(again._storage, "put", lambda file: (sent.append(file.read_text()), put(file)))
    (here / "bundle/128/policy.npz").unlink()
    write(here, {"bundle/384/policy.npz": "newest", "eval.csv": "2"})
    again.send(here, steps=384)
    assert sorted(text for text in sent if not text.startswith("{")) == ["2", "newest"]
    left = {path.read_text() for path in (tmp_path / "depot" / "job").iterdir() if "list" not in path.name}
    assert "old" not in left and "best" in left, "what is no longer needed is there still"


def test_partial_file_is_refused(tmp_path: Path) -> None:
    depot(tmp_path).send(write(tmp_path / "here", RUN))
    content = next(path for path in (tmp_path / "depot" / "job").iterdir() if path.read_text() == "best")
    content.write_text("be")
    with pytest.raises(OSError, match="not sent whole"):
        depot(tmp_path).fetch(tmp_path / "there")
    assert not (tmp_path / "there" / "bundle" / "best" / "policy.npz").exists()
    assert not list((tmp_path / "there").rglob(".*policy*"))


def test_partial_list_is_passed_over(tmp_path: Path) -> None:
    here = write(tmp_path / "here", RUN)
    depot(tmp_path).send(here, steps=256)
    whole = next((tmp_path / "depot" / "job").glob("list-*"))
    (whole.parent / whole.name.replace("list-1-", "list-2-")).write_text(whole.read_text()[:40])
    assert depot(tmp_path).steps() == 256


@pytest.mark.parametrize("name", ["../outside", "/outside", "bundle/../../outside", "..\\outside"])
def test_list_cannot_leave_folder(name: str, tmp_path: Path) -> None:
    from dinorl.tracking.depot import _sha256

    text = json.dumps({"steps": 0, "files": {name: _sha256(b"x")}})
    write(tmp_path / "depot" / "job", {_sha256(b"x"): "x", f"list-1-{_sha256(text.encode())}.json": text})
    with pytest.raises(ValueError, match="not a path within a run folder"):
        depot(tmp_path).fetch(tmp_path / "there")
    assert not list(tmp_path.rglob("outside"))


def test_bundle_is_fetched_state_last(tmp_path: Path) -> None:
    """A job that is killed while it fetches must not resume from half a bundle."""
    depot(tmp_path).send(write(tmp_path / "here", RUN))
    fetching, order = depot(tmp_path), []
    get = fetching._storage.get
    fetching._storage.get = lambda name, file: (get(name, file), order.append(file.read_text()))
    fetching.fetch(tmp_path / "there")
    assert order[-1] == "state"


def test_job_gets_its_start(tmp_path: Path, stage_run: Path) -> None:
    """A sweep starts from a bundle that only the command's machine has; a later stage, from the one before."""
    place, bundle = f"file://{tmp_path}/depot", stage_run / "bundle" / "best"
    send_bundle(place, bundle, "")
    Depot(place, "parent", "").send(stage_run)
    for key, start, found in (
        (start_key(bundle), tmp_path / "b" / "mine", tmp_path / "b" / "mine"),
        ("parent", tmp_path / "b" / "2-locomotion", tmp_path / "b" / "2-locomotion" / "bundle" / "best"),
    ):
        cfg = compose(["species=trex", f"warm_start={start}", f"tracking.bundles={place}", "tracking.job=own",
                       f"tracking.start={key}"])  # fmt: skip
        Courier(cfg, tmp_path / "run").fetch()
        assert (found / "policy.npz").read_bytes() == (bundle / "policy.npz").read_bytes()
        assert Bundle.open(start).meta == Bundle.open(bundle).meta


def test_missing_start_is_named(tmp_path: Path) -> None:
    cfg = compose(["species=trex", f"warm_start={tmp_path}/gone", f"tracking.bundles=file://{tmp_path}/depot",
                   "tracking.job=own", "tracking.start=parent"])  # fmt: skip
    with pytest.raises(FileNotFoundError, match="the bundle that this job starts from has not arrived"):
        Courier(cfg, tmp_path / "run").fetch()
