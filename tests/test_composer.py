"""Composing the same groups twice takes a shortcut, which nobody notices but by the clock."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from dinorl.config import tree
from dinorl.config.composer import Composer

OVERRIDES = (
    (),
    ("seed=3", "ppo.gamma=0.9", "ppo.gamma=0.8"),
    ("species=velociraptor", "stage=behavior", "recipe=toml"),
    ("algo=sac", "sac.ent_coef=auto_0.1", "experiment=quick", "eval.every=77"),
    ("experiment=[quick,debug]", "seed=${eval.seed}", "warm_start='a=b c'"),
    ("ppo.policy_kwargs={net_arch:[8]}", "env.healthy_z_range=[1,2]", "curriculum.ramp_start_value=null"),
    ("ppo.gamma=0.9", "++ppo.gamma=0.8", "+ppo.more=1", "~ppo.gae_lambda"),
    ("~experiment", "sim={n_envs:3}", "hydra.job.name=x"),
    ("ppo.gamma='${seed}'", "tracking.experiment=''"),
)
WRONG = (["ppo.gama=1"], ["experiment=none"], ["ppo.gamma=1,2"], ["ppo.gamma"], ["seed.x=1"])


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the conf tree, in Hydra's hands."""
    folder = Path(shutil.copytree(tree.conf_dir(), tmp_path / "conf"))
    monkeypatch.setattr(tree, "conf_dir", lambda: folder)
    with initialize_config_dir(str(folder), version_base="1.3"):
        yield folder


def composed(*overrides: str) -> DictConfig:
    return Composer(GlobalHydra.instance().config_loader(), from_shell=False)(overrides)


@pytest.mark.parametrize("overrides", OVERRIDES, ids=" ".join)
def test_equal_to_hydra_composition(overrides: tuple[str, ...], conf: Path) -> None:
    expected = hydra_compose("config", overrides=list(overrides))
    for _ in range(2):
        found = composed(*overrides)
        assert found == expected and list(found) == list(expected)
        assert OmegaConf.is_struct(found) and OmegaConf.is_struct(found.ppo)
        assert OmegaConf.to_yaml(found) == OmegaConf.to_yaml(expected)


@pytest.mark.parametrize("overrides", WRONG, ids=" ".join)
def test_errors_are_hydras_own(overrides: list[str], conf: Path) -> None:
    with pytest.raises(HydraException) as expected:
        hydra_compose("config", overrides=overrides)
    for _ in range(2):
        with pytest.raises(type(expected.value)) as found:
            composed(*overrides)
        assert str(found.value) == str(expected.value)


def test_changed_config_belongs_to_caller(conf: Path) -> None:
    first = composed()
    first.ppo.gamma = 0.5
    assert composed().ppo.gamma != 0.5


def test_changed_files_are_read_again(conf: Path) -> None:
    file = conf / "base" / "sim.yaml"
    assert composed().sim.frame_skip == 5
    file.write_text(file.read_text(encoding="utf-8").replace("frame_skip: 5", "frame_skip: 6"), encoding="utf-8")
    assert composed().sim.frame_skip == 6
    (conf / "local").mkdir()
    (conf / "local" / "default.yaml").write_text("# @package _global_\nsim:\n  frame_skip: 7\n", encoding="utf-8")
    assert composed().sim.frame_skip == 7
    shutil.rmtree(conf / "local")
    assert composed().sim.frame_skip == 6


def test_changed_store_is_read_again(conf: Path) -> None:
    for seed in (5, 6):
        ConfigStore.instance().store("default", OmegaConf.create({"seed": seed}), group="local", package="_global_")
        try:
            assert composed().seed == 0  # config.yaml, after it
            ConfigStore.instance().store("seed", OmegaConf.create({"eval": {"seed": seed}}), "experiment", "_global_")
            assert composed("experiment=seed").eval.seed == seed
        finally:
            for group, name in (("local", "default"), ("experiment", "seed")):
                ConfigStore.instance().repo.get(group, {}).pop(f"{name}.yaml", None)


@pytest.mark.parametrize("typed", [True, False], ids=["typed", "in config.yaml"])
def test_own_folders_are_read_again(typed: bool, conf: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine" / "experiment"
    mine.mkdir(parents=True)
    place = f"[file://{mine.parent}]"
    if not typed:
        text = (conf / "config.yaml").read_text(encoding="utf-8")
        (conf / "config.yaml").write_text(f"{text}\n  searchpath: {place}\n", encoding="utf-8")  # below hydra
    for steps in (11, 12):
        (mine / "own.yaml").write_text(f"# @package _global_\neval:\n  every: {steps}\n", encoding="utf-8")
        composer = Composer(GlobalHydra.instance().config_loader(), [f"hydra.searchpath={place}"] if typed else ())
        assert [composer(["experiment=own", f"seed={seed}"]).eval.every for seed in (0, 1)] == [steps, steps]


def test_broken_link_is_no_config(conf: Path) -> None:
    (conf / "base" / ".#sim.yaml").symlink_to("me@nowhere.1")
    assert composed().sim.frame_skip == 5
