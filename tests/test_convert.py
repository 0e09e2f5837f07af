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
    for path in sorted((conf_dir() / "recipe" / "toml").glob("*/*.yaml")):
        assert (tmp_path / "toml" / path.parent.name / path.name).read_text() == path.read_text()


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
