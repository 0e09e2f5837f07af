"""A new animal is one folder of data, without shared edits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import dinorl_here
from omegaconf import OmegaConf

from dinorl.config import STAGES, conf_dir
from dinorl.config.species import SPECIES_DIR


def add_species(folder: Path) -> None:
    """Write an animal that pecks: the velociraptor's body under another name, with an event of its own."""
    model = folder / "troodon.xml"
    model.write_text((SPECIES_DIR / "velociraptor" / "velociraptor.xml").read_text().replace("sickle_claw", "talon"))
    loaded = OmegaConf.load(conf_dir() / "species" / "velociraptor.yaml")
    data = OmegaConf.to_container(loaded)
    data["species"] |= {"name": "troodon", "title": "Troodon", "gym_name": "Troodon", "mjcf": str(model)}
    data["species"]["event"] = {
        "name": "peck",
        "effectors": ["talon_l", "talon_r"],
        "keys": {"bonus": "peck_bonus", "distance_range": "grub_distance_range", "lateral_range": "grub_lateral_range"},
    }
    env = {key: value for key, value in data["env"].items() if "strike" not in key and "prey" not in key}
    data["env"] = env | {"peck_bonus": 5.0, "grub_distance_range": [1.0, 2.0], "grub_lateral_range": [-0.5, 0.5]}
    for path, content in (
        ("species/troodon.yaml", data),
        *((f"recipe/default/troodon/{stage}.yaml", {"env": {"alive_bonus": 1.0}}) for stage in STAGES),
    ):
        (folder / "conf" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "conf" / path).write_text("# @package _global_\n" + OmegaConf.to_yaml(OmegaConf.create(content)))


@pytest.mark.usefixtures("has_store")
def test_custom_species_completes_curriculum(tmp_path: Path) -> None:
    add_species(tmp_path)
    done = dinorl_here(
        tmp_path, "--config-dir", "conf", "species=troodon", "experiment=debug", "sweep.name=first",
        "curriculum.timesteps=256", "3.env.peck_bonus=7.0",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "outputs" / "first" / "troodon-ppo-s0" / "3-behavior"
    assert "3 peck" in done.stdout and "peck_bonus 7" in (run / "train.log").read_text()
    for index, stage in enumerate(STAGES, 1):
        status = json.loads((tmp_path / f"outputs/first/troodon-ppo-s0/{index}-{stage}/status.json").read_text())
        assert status["status"] == "DONE"
