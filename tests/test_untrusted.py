"""An untrusted bundle is data: nothing in it is executed, fills the memory or leaves its folder."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dinorl.bundle import write
from dinorl.bundle.bundle import Bundle
from dinorl.bundle.player import load_player as play
from dinorl.config import ConfigError, compose
from dinorl.files.run_folder import BundleFolder
from dinorl.learners.base import make_learner
from dinorl.training import stage

ARRAYS = (BundleFolder.policy.name, BundleFolder.normalization.name)
TEXTS = ("meta.json", BundleFolder.config.name)


class Evil:
    """Creates a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.canary}",)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cfg = compose(["species=trex", "stage=balance", "sim.n_envs=2", "ppo.n_steps=8", "ppo.batch_size=16"])
    return write.save(tmp_path_factory.mktemp("honest") / "b", make_learner(cfg), cfg, {})


@pytest.fixture
def stranger(honest: Path, tmp_path: Path) -> Path:
    return shutil.copytree(honest, tmp_path / "stranger")


def with_member(path: Path, content: bytes) -> None:
    """Replace the first array of an .npz file."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members[next(iter(members))] = content
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, member in members.items():
            archive.writestr(name, member)


def object_array(evil: Evil) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([evil], dtype=object), allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "form"),
    [(name, form) for name in ARRAYS for form in ("whole", "member", "object", "loose")]
    + [(name, form) for name in TEXTS for form in ("whole", "tagged")],
)
def test_pickle_payload_refused(name: str, form: str, stranger: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    path, evil = stranger / name, Evil(canary)
    if form == "whole":
        path.write_bytes(pickle.dumps(evil, protocol=0))
    elif form == "member":
        with_member(path, pickle.dumps(evil))
    elif form == "object":
        with_member(path, object_array(evil))
    elif form == "tagged":
        path.write_text(f"env: !!python/object/apply:os.system ['touch {canary}']")
    else:
        path.write_bytes(object_array(evil))  # an .npy named .npz
    with pytest.raises(ConfigError, match=name):
        play(Bundle(stranger))
        _ = Bundle(stranger).meta
    assert not canary.exists()
    pickle.loads(pickle.dumps(evil))
    assert canary.exists()  # it would have worked


def test_zip_bomb_refused(stranger: Path) -> None:
    with zipfile.ZipFile(stranger / BundleFolder.policy.name, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("big.npy", "w") as member:
            for _ in range(300):
                member.write(bytes(1 << 20))
    assert (stranger / BundleFolder.policy.name).stat().st_size < 1 << 20
    with pytest.raises(ConfigError, match="unpacked; expected at most"):
        play(Bundle(stranger))


def test_huge_array_header_refused(stranger: Path) -> None:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (1 << 50,)})
    with_member(stranger / BundleFolder.policy.name, file.getvalue())
    with pytest.raises(ConfigError, match=BundleFolder.policy.name):
        play(Bundle(stranger))


@pytest.mark.parametrize("name", ARRAYS + TEXTS)
def test_symlinks_and_fifos_refused(name: str, honest: Path, stranger: Path) -> None:
    (stranger / name).unlink()
    (stranger / name).symlink_to(honest / name)
    with pytest.raises(ConfigError, match="found a link"):
        play(Bundle(stranger))
        _ = Bundle(stranger).meta
    (stranger / name).unlink()
    os.mkfifo(stranger / name)
    with pytest.raises(ConfigError, match="found something else"):  # without a wait
        play(Bundle(stranger))
        _ = Bundle(stranger).meta


@pytest.mark.parametrize(
    ("found", "planted", "said"),
    [
        ("mjcf: trex/trex.xml", "mjcf: ../../../../../../../../etc/passwd", "leads out of dinorl/species"),
        ("mjcf: trex/trex.xml", "mjcf: /etc/passwd", "leads out of dinorl/species"),
        ("title: T. rex", "title: ${oc.env:HOME}", "interpolation"),
        ("title: T. rex", 'title: "$\\x7Boc.env:HOME}"', "interpolation"),
        ("title: T. rex", '"$\\x7Boc.env:HOME}": 1', "interpolation"),
        ("- 128\n    - 128", "- 4096\n    - 4096", "more than 16,777,216 weights"),
        ("n_envs: 2", "n_envs: 2000000000", "sim.n_envs"),
        ("max_episode_steps: 1000", "max_episode_steps: 1000000000000", "env.max_episode_steps"),
        ("net_arch:\n    - 128", "net_arch:\n    - 1000000000", "net_arch"),
        ("species:", "nonsense:", "nonsense"),
        ("seed: 0", "seed: &a 0\neval: *a", "alias"),
    ],
)
def test_malicious_config_refused(found: str, planted: str, said: str, stranger: Path) -> None:
    path = stranger / BundleFolder.config.name
    text = path.read_text()
    assert found in text
    path.write_text(text.replace(found, planted))
    with pytest.raises(ConfigError, match=said):
        play(Bundle(stranger))


def test_bundle_without_model_hash_refused(stranger: Path) -> None:
    (stranger / "meta.json").write_text('{"species": "trex", "algo": "ppo", "seed": 0, "timesteps": 1}')
    with pytest.raises(ConfigError, match="expected mjcf_sha256 in it"):
        play(Bundle(stranger))


def test_mismatched_statistics_shape_refused(stranger: Path) -> None:
    path = stranger / BundleFolder.normalization.name
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    np.savez(path, **{**arrays, "obs_mean": np.zeros(3)})
    with pytest.raises(ConfigError, match="obs_mean"):
        play(Bundle(stranger))


@pytest.mark.parametrize("command", [["evaluate"], ["play", "--video", "film.mp4"]])
def test_commands_report_hostile_bundle(command: list[str], stranger: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    with_member(stranger / BundleFolder.policy.name, object_array(Evil(canary)))
    done = subprocess.run([sys.executable, "-m", "dinorl", command[0], str(stranger), *command[1:]], cwd=tmp_path,
                          capture_output=True, text=True, timeout=120)  # fmt: skip
    assert done.returncode != 0 and not canary.exists() and not (tmp_path / "film.mp4").exists()
    assert "Traceback" not in done.stderr and BundleFolder.policy.name in done.stderr
    assert json.loads((stranger / "meta.json").read_text())["algo"] == "ppo"


@pytest.mark.parametrize(
    "name", ["state.npz", BundleFolder.optimizer.name, BundleFolder.random.name, "progress.json", "replay"]
)
def test_pickle_in_resume_state_refused(name: str, tmp_path: Path) -> None:
    cfg = compose(["species=trex", "stage=balance", "algo=sac", "sim.n_envs=4", "sac.batch_size=8",
                   "sac.buffer_size=64", "sac.learning_starts=8", "curriculum.timesteps=64", "eval.every=32",
                   "eval.episodes=1", "env.max_episode_steps=5", "eval.video_seconds=0", "sim.threads=1"])  # fmt: skip
    canary, run = tmp_path / "canary", tmp_path / "run"
    stage.run_stage(cfg, run)
    found = [*(run / "replay").iterdir()] if name == "replay" else [*run.glob(f"bundle/[0-9]*/{name}")]
    assert found
    for path in found:
        path.write_bytes(pickle.dumps(Evil(canary), protocol=0))
    with pytest.raises(ConfigError, match="none of its bundles can be resumed from"):
        stage.run_stage(cfg, run)
    assert not canary.exists()
