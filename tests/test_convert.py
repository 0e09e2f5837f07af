"""The converter, and the committed ``recipe=toml`` against the tables it was made from."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from commands import word
from omegaconf import OmegaConf

from dinorl.config import STAGES, compose, conf_dir, flatten

TABLES = Path(__file__).parent / "data" / "stage_tables"
FILES = sorted(TABLES.glob("*/*.toml"))


def leaves(table: dict, prefix: str = "") -> dict:
    found = {}
    for key, value in table.items():
        found |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def stage_of(path: Path) -> str:
    return STAGES[int(path.name[5]) - 1]


def test_fixture_has_nine_tables() -> None:
    assert len(FILES) == 9


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_toml_recipe_matches_tables(path: Path) -> None:
    tables = tomllib.loads(path.read_text())
    species, stage = path.parent.name, stage_of(path)
    recipe = OmegaConf.to_container(OmegaConf.load(conf_dir() / "recipe" / "toml" / species / f"{stage}.yaml"))
    name = tables.pop("stage")["name"]
    assert recipe == tables  # [jax] included, under its own key
    cfg = compose([f"species={species}", f"stage={stage}", "recipe=toml"])
    assert name == (cfg.species.event.name if stage == "behavior" else stage)
    composed = flatten(cfg)
    del tables["jax"]
    for key, value in leaves(tables).items():
        assert composed[key] == value, key
    assert cfg.sim.n_envs == 4


def test_conversion_reproduces_committed_recipe(tmp_path: Path) -> None:
    assert word("convert", TABLES, "--out", tmp_path) == 0
    recipe = conf_dir() / "recipe" / "toml"
    made, committed = (
        {path.relative_to(folder): path.read_text() for path in folder.rglob("*.yaml")}
        for folder in (tmp_path / "toml", recipe)
    )
    assert made == committed


# Keys of [jax] with a counterpart of another name, and those without one.
JAX = {
    "num_envs": "sim.n_envs",
    "rollout_len": "ppo.n_steps",
    "ppo_epochs": "ppo.n_epochs",
    "minibatch_size": "ppo.batch_size",
} | {
    f"{key}": f"curriculum.{key}" for key in ("warmup_updates", "warmup_clip_range", "warmup_ent_coef", "ramp_updates")
}
LEFT = {"vf_clip_range", "init_qpos_noise", "init_yaw_noise", "obs_rms_decay_on_resume"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_jax_table_acts_on_gpu(path: Path) -> None:
    tables = tomllib.loads(path.read_text())
    cfg = compose([f"species={path.parent.name}", f"stage={stage_of(path)}", "recipe=toml", "experiment=gpu"])
    composed, jax = flatten(cfg), leaves(tables["jax"])
    updates, share = jax.pop("num_updates"), jax.pop("ramp_start_fraction", None)
    assert jax.pop("ramp_attr", "forward_vel_weight") == "forward_vel_weight"
    for key, value in jax.items():
        assert key in LEFT or composed[JAX.get(key, f"ppo.{key}")] == value, key
    assert cfg.curriculum.timesteps == updates * 2048 * 64
    assert cfg.ppo.learning_rate_end == jax.get("learning_rate_end")
    assert (cfg.sim.backend, cfg.sim.device, cfg.algo.device) == ("warp", "cuda", "cuda")
    if share is not None:
        assert cfg.curriculum.ramp_start_value == pytest.approx(share * tables["env"]["forward_vel_weight"])
        assert cfg.ramp_steps == jax["ramp_updates"] * 2048 * 64
        assert cfg.warmup_steps == jax["warmup_updates"] * 2048 * 64


@pytest.mark.parametrize(("name", "animals"), [("gpu", 2048), ("gpu_small", 1024)])
def test_gpu_experiments_compose(name: str, animals: int) -> None:
    cfg = compose(["species=trex", "stage=locomotion", f"experiment={name}"])
    assert (cfg.sim.n_envs, cfg.ppo.n_steps, cfg.ppo.batch_size) == (animals, 64, 16384)
    assert (cfg.sim.backend, cfg.sim.device, cfg.algo.device) == ("warp", "cuda", "cuda")


def test_other_jax_tables_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "trex").mkdir()
    (tmp_path / "trex" / "stage2_locomotion.toml").write_text(
        "[env]\nalive_bonus = 2\n[jax]\nnum_updates = 9\nramp_attr = 'alive_bonus'\nramp_updates = 4\n"
        "learning_rat = 1.0\nvf_clip_range = 10.0\nclip_range = 0.1\n"
    )
    assert word("convert", tmp_path, "--name", "mine", "--out", tmp_path / "out") == 0
    said = capsys.readouterr().out
    for line in (
        "not taken: jax.num_updates: its length needs jax.num_envs and jax.rollout_len",
        "not taken: jax.ramp_updates: only forward_vel_weight is ramped, not alive_bonus",
        "not taken: jax.learning_rat: unknown key; the nearest is ppo.learning_rate",
        "not taken: jax.vf_clip_range: PPO here does not clip value estimates",
        "its [jax] tables with recipe=mine experiment=gpu",
    ):
        assert line in said
    assert OmegaConf.load(tmp_path / "out" / "mine" / "trex" / "locomotion" / "gpu.yaml") == {
        "ppo": {"clip_range": 0.1}
    }


def test_skipped_keys_listed_with_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "trex").mkdir()
    (tmp_path / "trex" / "stage1_balance.toml").write_text(
        '[stage]\nname = "strut"\n[env]\nalive_bonus = 2\nstrike_bonus = 1.0\n'
        "[ppo]\nlearning_rat = 1e-3\n[colour]\nred = 1\n"
    )
    assert word("convert", tmp_path, "--name", "mine", "--out", tmp_path / "out") == 0
    said = capsys.readouterr().out
    for line in (
        "not taken: stage.name: 'strut': this stage of trex is called balance",
        "not taken: env.strike_bonus: unknown key; the nearest is env.bite_bonus",
        "not taken: ppo.learning_rat: unknown key; the nearest is ppo.learning_rate",
        "not taken: colour: unknown table; known are env, ppo, sac, curriculum, jax",
    ):
        assert line in said
    content = OmegaConf.load(tmp_path / "out" / "mine" / "trex" / "balance.yaml")
    assert content == {"env": {"alive_bonus": 2}, "ppo": {}}


@pytest.mark.parametrize("files, message", [
    ({}, "found no stage files; expected <species>/stage1_"),
    ({"trex/stage1.toml": "a = = b"}, "stage1.toml: not TOML"),
    ({"trex/walk.toml": ""}, "expected a name such as stage1_balance.toml"),
    ({"dodo/stage1.toml": ""}, "species=dodo: there is no such species; expected one of brachiosaurus"),
])  # fmt: skip
def test_invalid_table_folder_refused(
    files: dict, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert word("convert", tmp_path) == 2
    assert message in capsys.readouterr().err
