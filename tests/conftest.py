"""Shared fixtures: species names, a stage run, an MLflow store."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

os.environ.setdefault("MUJOCO_GL", "egl")
import dinorl  # noqa: E402, F401  before torch, whose threads spin otherwise while they wait
from dinorl.tracking.store import SETTINGS  # noqa: E402

for name, value in SETTINGS.items():  # read when MLflow is imported, which a test may do by itself
    os.environ.setdefault(name, value)
for number in (signal.SIGINT, signal.SIGHUP):  # ignored below nohup and `&`, and so in every command under test
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

WORKERS = 3  # on two cores: some tests wait
LONGEST = (
    "test_cluster.py", "test_search_command.py", "test_survival.py", "test_server.py", "test_sweep.py",
    "test_surroundings.py", "test_shipped.py",
)  # fmt: skip

SPECIES = ("velociraptor", "trex", "brachiosaurus")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Use three workers by default; none with a debugger (``--pdb``, ``-p no:xdist``) or in a worker."""
    debugged = config.getoption("usepdb") or config.getoption("trace")
    if config.pluginmanager.hasplugin("xdist") and not debugged and not hasattr(config, "workerinput"):
        if config.option.numprocesses is None:
            config.option.numprocesses, config.option.dist = WORKERS, "worksteal"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest tests, so that no worker ends alone."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests that need a GPU where there is none."""
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs an NVIDIA GPU and a CUDA build of torch")


@pytest.fixture(scope="session")
def stage_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a short third stage of the T. rex; read only."""
    from dinorl.config import compose
    from dinorl.training.stage import run_stage

    folder = tmp_path_factory.mktemp("stage_run")
    cfg = compose(
        ["species=trex", "stage=behavior", "sim.n_envs=8", "ppo.n_steps=16", "ppo.batch_size=64", "eval.episodes=2",
         "curriculum.timesteps=128", "eval.video_seconds=0", "env.max_episode_steps=20"]
    )  # fmt: skip
    run_stage(cfg, folder)
    return folder


@pytest.fixture(scope="session")
def made_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow store; its tables take seconds to make."""
    from dinorl.tracking import store

    path = tmp_path_factory.mktemp("store") / store.DATABASE
    store.make_tables(path)
    return path


@pytest.fixture
def has_store(made_store: Path, tmp_path: Path) -> None:
    """Put a store where commands in ``tmp_path`` look for it."""
    (tmp_path / "outputs").mkdir()
    shutil.copy(made_store, tmp_path / "outputs")
