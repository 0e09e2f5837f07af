"""Shared by all tests: animals by name, and a run of a stage."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

# the tests are about results, not about who else uses the cores
os.environ.setdefault("MUJOCO_GL", "egl")

WORKERS = 2

SPECIES = ("velociraptor", "trex", "brachiosaurus")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Use two workers by default; none with a debugger (``--pdb``, ``-p no:xdist``) or in a worker."""
    debugged = config.getoption("usepdb") or config.getoption("trace")
    if config.pluginmanager.hasplugin("xdist") and not debugged and not hasattr(config, "workerinput"):
        if config.option.numprocesses is None:
            config.option.numprocesses, config.option.dist = WORKERS, "worksteal"


@pytest.fixture(scope="session")
def stage_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a T. rex's third stage, trained for a moment; read only."""
    from dinorl.config import compose
    from dinorl.tracking.tracker import NullTracker
    from dinorl.training.stage import run_stage

    folder = tmp_path_factory.mktemp("stage_run")
    cfg = compose(
        ["species=trex", "stage=behavior", "sim.n_envs=8", "ppo.n_steps=16", "ppo.batch_size=64", "eval.episodes=2",
         "curriculum.timesteps=128", "eval.video_seconds=0", "env.max_episode_steps=20"]
    )  # fmt: skip
    run_stage(cfg, folder, NullTracker())
    return folder


@pytest.fixture(scope="session")
def made_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow store without runs; its tables take a while to make."""
    from dinorl.tracking import store

    path = tmp_path_factory.mktemp("store") / store.DATABASE
    store.make_tables(path)
    return path


@pytest.fixture
def has_store(made_store: Path, tmp_path: Path) -> None:
    """A command that is given in ``tmp_path`` finds its store made."""
    (tmp_path / "outputs").mkdir()
    shutil.copy(made_store, tmp_path / "outputs")
