"""From overrides to a plan: lineages, shared stages, precedence. Starts no process."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from dinorl.config import ConfigError, build, compose, flatten, to_container
from dinorl.config.overrides import hydra_value, read_settings
from dinorl.config.strict import known_keys
from dinorl.sweep.plan import Plan, make_plan, plan_rows
from dinorl.training.gate import Gate


def plan(*overrides: str) -> Plan:
    settings, stages = read_settings(OverridesParser.create().parse_overrides(list(overrides)))
    return make_plan(settings, stages, compose)


def test_lineage_has_ordered_stages() -> None:
    made = plan("species=brachiosaurus", "algo=sac")
    assert [job.folder for job in made.jobs] == [
        f"brachiosaurus-sac-s0/{stage}" for stage in ("1-balance", "2-locomotion", "3-behavior")
    ]
    assert [job.parent.folder if job.parent else None for job in made.jobs] == [
        None,
        *(j.folder for j in made.jobs[:2]),
    ]
    assert [job.title for job in made.jobs] == ["1 balance", "2 locomotion", "3 food_reach"]


def test_late_sweep_shares_early_stages() -> None:
    made = plan("3.ppo.gamma=0.9,0.95,0.98")
    assert len(made.lineages) == 3 and len(made.jobs) == 5
    assert [job.stage for job in made.jobs] == ["balance", "locomotion", "behavior", "behavior", "behavior"]
    assert len(made.jobs[0].lineages) == 3
    notes = [row[4] for row in plan_rows(made)]
    assert notes.count(f"shared: {made.jobs[0].folder}") == 2
    assert {job.config.ppo.gamma for job in made.jobs[2:]} == {0.9, 0.95, 0.98}


def test_early_sweep_shares_nothing() -> None:
    assert len(plan("1.ppo.gamma=0.9,0.95").jobs) == 6


def test_tracking_sweep_shares_all_stages() -> None:
    assert len(plan("tracking.log_every=1,2").jobs) == 3


def test_sweep_is_cartesian_product() -> None:
    made = plan("species=trex,velociraptor,brachiosaurus", "algo=ppo,sac", "seed=0,1")
    assert len(made.lineages) == 12 and len(made.jobs) == 36
    assert len({job.folder for job in made.jobs}) == 36


@pytest.mark.parametrize("order", [1, -1])
def test_stage_override_takes_precedence(order: int) -> None:
    made = plan(*["2.ppo.gamma=0.9", "ppo.gamma=0.8"][::order])
    assert [job.config.ppo.gamma for job in made.jobs] == [0.8, 0.9, 0.8]


def test_stage_number_or_name_equivalent() -> None:
    assert plan("2.ppo.gamma=0.9").jobs[1].key == plan("locomotion.ppo.gamma=0.9").jobs[1].key


def test_stage_subset_keeps_order() -> None:
    made = plan("stage=behavior,locomotion")
    assert [(job.index, job.stage) for job in made.jobs] == [(2, "locomotion"), (3, "behavior")]


def test_range_sweep_follows_hydra() -> None:
    assert [lineage.name for lineage in plan("seed=range(0,3)", "stage=balance").lineages] == [
        f"trex-ppo-s{i}" for i in range(3)
    ]


def test_lineage_names_are_unique() -> None:
    made = plan("stage=balance", "env.bite_bonus=" + ",".join(["1" * 60, "1" * 60 + ".0"]))
    assert len({lineage.name for lineage in made.lineages}) == 2


@pytest.mark.parametrize("text", ["a b", "it's", "[x]", "a=b,c", "C:\\x\\", "\\'", "\\\\'b\\"])
def test_hydra_value_roundtrip(text: str) -> None:
    parsed = OverridesParser.create().parse_override(f"key={hydra_value(text)}")
    assert parsed.value() == text


def test_config_container_roundtrip() -> None:
    from omegaconf import OmegaConf

    cfg = compose(["species=velociraptor", "stage=behavior", "algo=sac"])
    assert build(OmegaConf.create(to_container(cfg))) == cfg
    roles = {key for key in flatten(cfg) if key.startswith("species.event.keys.")}
    assert set(flatten(cfg)) - roles == set(known_keys(cfg.species)) - {"species.event.keys"}


@pytest.mark.parametrize("species", ["trex", "velociraptor", "brachiosaurus"])
@pytest.mark.parametrize("stage", ["balance", "locomotion", "behavior"])
@pytest.mark.parametrize("algo", ["ppo", "sac"])
@pytest.mark.parametrize("recipe", ["default", "toml"])
def test_every_recipe_composes(species: str, stage: str, algo: str, recipe: str) -> None:
    cfg = compose([f"species={species}", f"stage={stage}", f"algo={algo}", f"recipe={recipe}"])
    assert (cfg.species.name, cfg.stage.name, cfg.algo.name) == (species, stage, algo)
    assert Gate(cfg.curriculum).thresholds


def test_last_duplicate_override_wins() -> None:
    assert len(plan("seed=0,1,2", "stage=balance", "seed=3,4").lineages) == 2
    assert [job.config.seed for job in plan("seed=0,1", "stage=balance", "seed=5").jobs] == [5]


def test_stage_key_lineage_not_retention() -> None:
    made, other = plan("seed=0"), plan("seed=0", "1.ppo.gamma=0.9")
    assert [a.key == b.key for a, b in zip(made.jobs, other.jobs, strict=True)] == [False] * 3
    same = plan("seed=0", "eval.keep=5", "eval.video_seconds=1", "sim.threads=1", "tracking.log_every=2")
    assert [job.key for job in made.jobs] == [job.key for job in same.jobs]


def test_stage_key_covers_mjcf(tmp_path: Path) -> None:
    body = tmp_path / "body.xml"
    body.write_text("<mujoco/>")
    keys = set()
    for text in ("<mujoco/>", "<mujoco model='other'/>"):
        body.write_text(text)
        keys.add(plan(f"species.mjcf={body}", "stage=balance").jobs[0].key)
    assert len(keys) == 2


def test_foreign_event_key_refused() -> None:
    with pytest.raises(ConfigError, match=r"env\.strike_bonus: means nothing for species=trex.*env\.bite_bonus"):
        compose(["species=trex", "+env.strike_bonus=3"])
