"""A model's identity is what compiles, not its text; bundles and runs of older versions stay valid."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from commands import word
from hydra.core.override_parser.overrides_parser import OverridesParser

from dinorl.bundle.bundle import Bundle
from dinorl.bundle.locate import zoo
from dinorl.config import Config, ConfigError, compose
from dinorl.config.identity import job_key, old_job_key
from dinorl.config.overrides import read_settings
from dinorl.config.species import file_hash, mjcf_hash, mjcf_path, same_model
from dinorl.files.run_folder import SweepFiles, write_json
from dinorl.sim.model import Animal
from dinorl.sweep.folder import SweepFolder
from dinorl.sweep.plan import make_plan
from tests.conftest import SPECIES
from tests.test_bodies import KNEE, add, body, config, named, put


def included(folder: Path, mass: float = 5.0, corner: float = 0.1, comment: str = "") -> Config:
    """Write a body of three files: the top one, an included one, a mesh."""
    folder.mkdir(exist_ok=True)
    pack = f"<body name='pack' pos='0 0 2'><geom type='mesh' mesh='m' mass='{mass}'/></body>"
    (folder / "pack.xml").write_text(f"<mujoco><worldbody>{pack}</worldbody></mujoco>")
    corners = f"v 0 0 0\nv {corner} 0 0\nv 0 0.1 0\nv 0 0 0.1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"
    (folder / "m.obj").write_text(corners)
    made = body(
        folder, add("asset", "<mesh name='m' file='m.obj'/>"), add(".", "<include file='pack.xml'/>"),
        put(".//default/geom", contype=None, conaffinity=None),
    )  # fmt: skip
    path = Path(made.species.mjcf)
    path.write_text(f"<!-- {comment} -->" + path.read_text())
    return made


def test_identity_is_compiled_model(tmp_path: Path) -> None:
    first = mjcf_hash(included(tmp_path).species)
    assert mjcf_hash(included(tmp_path, comment="words").species) == first, "a comment"
    assert mjcf_hash(included(tmp_path / "moved").species) == first, "another folder"
    assert mjcf_hash(included(tmp_path, mass=25.0).species) != first, "an included file"
    assert mjcf_hash(included(tmp_path, corner=0.2).species) != first, "a mesh"
    assert mjcf_hash(included(tmp_path).species) == first


def test_identity_ignores_timestep_and_looks(tmp_path: Path) -> None:
    cfg = config()
    assert Animal(cfg.species, replace(cfg.sim, timestep=0.001)).identity == mjcf_hash(cfg.species)
    painted = body(tmp_path, put(".//material", rgba="1 0 0 1"), put(named("camera", "track"), pos="0 0 9"))
    assert mjcf_hash(painted.species) == mjcf_hash(cfg.species)
    stronger = body(tmp_path, put(KNEE, kp="1001"))
    assert mjcf_hash(stronger.species) != mjcf_hash(cfg.species)


def test_identity_same_in_other_process() -> None:
    script = (
        "import sys; from pathlib import Path; import dinorl.config.identity; print('mujoco' in sys.modules);"
        "from dinorl.config.species import compile_mjcf, model_hash; print(model_hash(compile_mjcf(Path(sys.argv[1]))))"
    )
    path = mjcf_path(config().species)
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", mjcf_hash(config().species)], "light code imports no MuJoCo"


@pytest.mark.parametrize("species", SPECIES)
def test_shipped_bundles_stay_valid(species: str) -> None:
    shipped = [Bundle(folder) for name, folder in zoo().items() if name.startswith(f"{species}/")]
    assert shipped and all(bundle.outdated() is None for bundle in shipped)


def test_old_identity_still_accepted(tmp_path: Path) -> None:
    cfg = body(tmp_path)
    old = file_hash(cfg.species)
    assert old == hashlib.sha256(Path(cfg.species.mjcf).read_bytes()).hexdigest()
    assert same_model(old, cfg.species) and same_model(mjcf_hash(cfg.species), cfg.species)
    heavier = body(tmp_path, put(named("geom", "ribs"), mass="25"))
    assert not same_model(old, heavier.species)


def test_old_sweep_keeps_its_runs(tmp_path: Path) -> None:
    settings, stages = read_settings(OverridesParser.create().parse_overrides(["species=trex"]))
    plan = make_plan(settings, stages, compose)
    new = [job.key for job in plan.jobs]
    old: list[str] = []
    for job in plan.jobs[:2]:
        old.append(old_job_key(job.config, old[-1] if old else None))
    folder = SweepFolder(tmp_path, resume=True)
    write_json(SweepFiles(tmp_path).plan, {job.folder: key for job, key in zip(plan.jobs[:2], old, strict=True)})
    folder.check(plan)
    assert [job.key for job in plan.jobs] == [*old, new[2]], "the third stage is new"
    assert job_key(plan.jobs[2].config, new[1]) == new[2]


@pytest.fixture
def own_bundle(tmp_path: Path) -> Path:
    """A bundle of a body outside of the package."""
    folder = tmp_path / "bundle"
    shutil.copytree(zoo()["trex/balance"], folder)
    made = body(tmp_path)
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("mjcf: trex/trex.xml", f"mjcf: {made.species.mjcf}"))
    meta = json.loads((folder / "meta.json").read_text()) | {"mjcf_sha256": mjcf_hash(made.species)}
    (folder / "meta.json").write_text(json.dumps(meta))
    return folder


def test_bundle_survives_comment(own_bundle: Path) -> None:
    model = own_bundle.parent / "trex.xml"
    model.write_text("<!-- words -->" + model.read_text())
    assert Bundle(own_bundle).outdated() is None


def test_bundle_follows_moved_model(own_bundle: Path) -> None:
    model, moved = own_bundle.parent / "trex.xml", own_bundle.parent / "moved.xml"
    model.rename(moved)
    with pytest.raises(ConfigError) as refused:
        _ = Bundle(own_bundle).config
    assert f"species.mjcf={model} does not exist" in str(refused.value)
    assert "if it was moved, type --mjcf PATH, or write its path into that config.yaml" in str(refused.value)
    given = Bundle.open(own_bundle, moved)
    assert given.outdated() is None and given.config.species.mjcf == str(moved)
    following = Bundle(own_bundle).following(given.config.species)
    assert following.config.species.mjcf == str(moved), "a warm start and a resumed stage know its new place"
    text = (own_bundle / "config.yaml").read_text()
    (own_bundle / "config.yaml").write_text(text.replace(str(model), str(moved)))
    assert Bundle(own_bundle).outdated() is None


def test_commands_take_moved_model(own_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moved = own_bundle.parent / "moved.xml"
    (own_bundle.parent / "trex.xml").rename(moved)
    more = ["--episodes=1", "env.max_episode_steps=5", f"--mjcf={moved}"]
    assert word("evaluate", own_bundle, *more) == 0
    assert "trex balance (ppo): 1 episodes" in capsys.readouterr().out


def test_job_ignores_place_of_model(tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    here, there = body(tmp_path / "here"), body(tmp_path / "there")
    assert job_key(here, None) == job_key(there, None)
    heavier = body(tmp_path / "there", put(named("geom", "ribs"), mass="25"))
    assert job_key(here, None) != job_key(heavier, None)


def test_bundle_refuses_other_model(own_bundle: Path) -> None:
    body(own_bundle.parent, put(named("geom", "ribs"), mass="25"))
    with pytest.raises(ConfigError, match="to a file that has changed since this policy was trained, or is another"):
        _ = Bundle(own_bundle).config
    (own_bundle.parent / "trex.xml").write_text("<mujoco>")
    with pytest.raises(ConfigError, match="to a file that is no model that compiles"):
        _ = Bundle(own_bundle).config
