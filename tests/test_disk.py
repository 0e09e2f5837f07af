"""A full disk: a small tmpfs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import dinorl_here

from dinorl.bundle.bundle import Bundle
from dinorl.bundle.locate import numbered


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MB: room for a few bundles."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "none", folder], capture_output=True).returncode:
        pytest.skip("only root may mount a tmpfs here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_full_disk_keeps_written_bundles(disk: Path, tmp_path: Path) -> None:
    def dinorl() -> subprocess.CompletedProcess[str]:
        return dinorl_here(
            disk, "species=trex", "stage=balance", "experiment=debug", "sweep.name=s", "curriculum.timesteps=4096",
            "eval.every=256", "eval.keep=50", "eval.video_seconds=0", "ppo.policy_kwargs.net_arch=[256,256]",
            "ppo.n_epochs=1", "curriculum.min_avg_reward=1e9", f"tracking.uri=sqlite:///{tmp_path}/mlflow.db",
        )  # fmt: skip

    done = dinorl()
    run = disk / "outputs" / "s" / "trex-ppo-s0" / "1-balance"
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr
    output = " ".join(done.stdout.split())
    assert "FAILED: trex-ppo-s0/1-balance" in output and "is full" in output, output
    written = numbered(run / "bundle")
    assert len(written) >= 2
    for folder in (*written, run / "bundle" / "best"):
        Bundle(folder).learner_files()  # raises if one is damaged
    assert not list(run.glob("bundle/.*"))  # nothing half written

    subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
    again = dinorl()
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"resumes at {int(written[0].name):,} steps" in (run / "train.log").read_text()
    assert json.loads((run / "status.json").read_text())["status"] == "DONE"
