"""Checks a species' body before it is trained: its model, a short stand in the home pose, its mirror."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import mujoco
import numpy as np

from dinorl.config import Config, ConfigError
from dinorl.config.species import compile_mjcf, mjcf_path, mujoco_warnings
from dinorl.sim.anatomy import body_id, check_anatomy, floors, home_id, is_free
from dinorl.sim.cpu import CpuSimulation
from dinorl.sim.findings import Finding, about, doubt, refusal
from dinorl.sim.model import CAMERA, Animal
from dinorl.sim.sensors import sensor_id, sensors_of
from dinorl.sim.servos import Servo, servos_of
from dinorl.sim.symmetry import Symmetry, at_home, places_of, symmetry_of
from dinorl.tasks import episode
from dinorl.tasks.signals import Signals

STANDS = 0.5  # s, in the home pose
LOW = 0.75  # of the home height; below, it has fallen
SUNK = 0.05  # of the home height, in the floor


@dataclass
class Report:
    """What was found in one species' body.

    Attributes:
        path: of its MJCF.
        facts: what was found, by part.
        servos: its actuators.
        findings: faults and doubts.
    """

    path: Path
    facts: dict[str, str] = field(default_factory=dict)
    servos: list[Servo] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def faults(self) -> list[Finding]:
        """Findings that refuse a plan."""
        return [finding for finding in self.findings if finding.fault]

    @property
    def doubts(self) -> list[Finding]:
        """Findings that only warn."""
        return [finding for finding in self.findings if not finding.fault]


def check_bodies(configs: Iterable[Config]) -> list[str]:
    """Check every body of some stages once.

    Returns:
        Doubts, one a line.

    Raises:
        ConfigError: a body has faults; all faults of one file at once.
    """
    distinct = {_depends_on(config): config for config in configs}
    by_file: dict[Path, dict[Finding, None]] = {}
    for config in distinct.values():
        report = check_body(config)
        by_file.setdefault(report.path, {}).update(dict.fromkeys(report.findings))
    for path, findings in by_file.items():
        if faults := [finding for finding in findings if finding.fault]:
            raise refusal(path, faults)
    return [f"doubt: {path.name}: {finding}" for path, findings in by_file.items() for finding in findings]


def _depends_on(config: Config) -> tuple[object, ...]:
    """Return what the check of a body depends on."""
    env = config.env
    return (
        repr(config.species), config.sim.timestep, config.sim.frame_skip, config.algorithm.policy_kwargs.mirror,
        repr((env.healthy_z_range, env.max_tilt_angle, env.natural_pitch, env.nosedive_termination_threshold)),
        config.eval.video_seconds > 0,
    )  # fmt: skip


def check_body(config: Config) -> Report:
    """Return what is wrong or doubtful about a stage's body; never raises."""
    with mujoco_warnings() as warned:
        report = _check_body(config)
    for warning in dict.fromkeys(" ".join(text.split()) for text in warned):
        report.findings.append(doubt("model", f"MuJoCo warns: {warning.rstrip('.')}", "Mend it"))
    return report


def _check_body(config: Config) -> Report:
    report = Report(mjcf_path(config.species))
    try:
        model = compile_mjcf(report.path)
    except ConfigError as error:
        hint = error.hint or "Mend that line"
        report.findings.append(Finding("model", error.problem, hint))
        return report
    report.servos = servos_of(model)
    report.facts = _facts(model, config)
    report.findings = [*check_anatomy(model, config.species), *_check_settings(model, config)]
    if report.faults:
        report.facts |= dict.fromkeys(("stand", "mirror"), "checked once the faults are mended")
        return report
    symmetry = symmetry_of(model, config.species)
    report.facts["mirror"] = _mirror_fact(symmetry)
    report.facts["stand"], findings = _stand(config)
    report.findings += [*_check_pairs(model, config, symmetry), *_check_mirror(config, symmetry), *findings]
    return report


def _facts(model: mujoco.MjModel, config: Config) -> dict[str, str]:
    """Return what a model has, by part."""
    species, key, trunk = config.species, home_id(model), body_id(model, "trunk")
    servos = [servo.name for servo in servos_of(model) if servo.name]
    sensors = [sensor.name for sensor in sensors_of(species, servos)]
    known = sum(sensor_id(model, name) >= 0 for name in sensors)
    names = [mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_GEOM.value, i) or f"geom {i}" for i in floors(model)]
    target = body_id(model, "target")
    mass = f"{model.body_subtreemass[trunk]:.4g} kg" if trunk >= 0 else "–"
    return {
        "mass": mass,
        "freejoint": "of body trunk" if is_free(model) else "none",
        "home": f"trunk at {model.key_qpos[key, 2]:g} m" if key >= 0 and is_free(model) else "–",
        "floor": ", ".join(names) or "none",
        "feet": ", ".join(species.feet),
        "event": f"{species.event.name} with {', '.join(species.event.effectors)}",
        "target": "mocap body" if target >= 0 and model.body_mocapid[target] >= 0 else "none",
        "servos": f"{len(servos_of(model))}",
        "sensors": f"{known} of {len(sensors)}",
        "camera": CAMERA if _has_camera(model) else "none",
        "timestep": f"{model.opt.timestep:g} s in the file, sim.timestep={config.sim.timestep:g}",
    }


def _has_camera(model: mujoco.MjModel) -> bool:
    return bool(mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA.value, CAMERA) >= 0)


def _check_settings(model: mujoco.MjModel, config: Config) -> Iterator[Finding]:
    """Yield what does not fit the config."""
    own, ours = float(model.opt.timestep), config.sim.timestep
    if not math.isclose(own, ours):
        problem = f"the file's own is {own:g} s, sim.timestep={ours:g} replaces it"
        yield doubt("timestep", problem, f"Type sim.timestep={own:g}, or the same in <option>")
    if not _has_camera(model):
        hint = (
            f'Type <camera name="{CAMERA}" mode="trackcom" pos="0 -3 0.5" xyaxes="1 0 0 0 0 1"/> in <body name="trunk">'
        )
        filmed = config.eval.video_seconds > 0
        yield Finding("camera", f"found none named {CAMERA}; films need it", hint, fault=filmed)
    key = home_id(model)
    if key >= 0 and is_free(model):
        height, (low, high) = float(model.key_qpos[key, 2]), config.env.healthy_z_range
        if height > 0.0 and not low < height < high:
            problem = f"the trunk is at {height:g} m, env.healthy_z_range=[{low:g},{high:g}]: each episode ends at once"
            yield Finding("home", problem, f"Type env.healthy_z_range=[{0.6 * height:.2g},{1.3 * height:.2g}]")


def _check_pairs(model: mujoco.MjModel, config: Config, symmetry: Symmetry) -> Iterator[Finding]:
    """Yield pairs of ``species.feet`` that are not left and right of one girdle."""
    feet = config.species.feet
    places = places_of(model, at_home(model), [f"{foot}_touch" for foot in feet])
    sides = np.sign(places[:, 1])
    order = sorted(range(len(feet)), key=lambda i: (-places[i, 0].round(2), -places[i, 1]))
    hint = f"Type species.feet=[{','.join(feet[i] for i in order)}], and species.gait_phase in that order"
    for left in range(0, len(feet), 2):
        right = left + 1
        pair = f"{feet[left]}, {feet[right]}"
        if sides[left] == sides[right] or symmetry.feet[left] not in (right, -1):
            yield Finding("feet", f"{pair}: not left and right of one girdle", hint)
        elif sides[left] < 0:
            yield doubt("feet", f"{pair}: expected left before right", hint)


def _check_mirror(config: Config, symmetry: Symmetry) -> Iterator[Finding]:
    key = f"{config.algo.name}.policy_kwargs.mirror"
    if config.algorithm.policy_kwargs.mirror:
        for problem in symmetry.problems:
            yield Finding("mirror", problem, f"Mend it, or type {key}=false")


def _mirror_fact(symmetry: Symmetry) -> str:
    if symmetry.problems:
        return "none"
    middle = int((symmetry.servos == np.arange(symmetry.servos.size)).sum())
    return f"{(symmetry.servos.size - middle) // 2} pairs of joints, {middle} in the middle"


def _stand(config: Config) -> tuple[str, list[Finding]]:
    """Hold the home pose for a moment; return the fact and what is wrong with it."""
    animal = Animal(config.species, config.sim)
    sim = CpuSimulation(animal, 1, config.sim.frame_skip, 1)
    everyone = np.arange(1)
    sim.refresh(everyone)
    findings = [finding for check in _STANDING for finding in check(config, animal, sim)]
    if findings:
        return "falls", findings
    dt, load = animal.control_timestep, 0.0 * sim.sensors[0, animal.layout.foot_touch]
    fell: float | None = None
    height = animal.home_height
    for step in range(math.ceil(STANDS / dt)):
        sim.step(np.zeros((1, animal.model.nu)))
        if sim.diverged.any():
            hint = (
                f"Type sim.timestep={config.sim.timestep / 2:g} sim.frame_skip={config.sim.frame_skip * 2}, or lower kp"
            )
            return "unstable", [Finding("home", f"the simulation diverges after {(step + 1) * dt:.2g} s", hint)]
        load = np.maximum(load, sim.substeps[0][:, animal.layout.foot_touch].max(axis=0))
        height = float(sim.sensors[0, animal.layout.trunk_pos][2])
        if fell is None and (height < LOW * animal.home_height or _fallen(config, animal, sim)):
            fell = (step + 1) * dt
    blind = [foot for foot, force in zip(config.species.feet, load, strict=True) if force <= 0.0]
    fault = fell is None or len(blind) == load.size
    hint = 'Let its geoms collide with the floor, with margin="0", inside the site of its touch sensor'
    findings = list(about("feet", blind, f"no load within {STANDS:g} s in the home pose", hint, fault))
    if fell is not None:
        problem = f"it falls after {fell:.2g} s of action 0"
        findings.append(doubt("home", problem, "Raise kp, or move the feet below the centre of mass"))
    return f"falls after {fell:.2g} s" if fell else f"stands: {height:.3g} m after {STANDS:g} s", findings


def _check_upright(config: Config, animal: Animal, sim: CpuSimulation) -> Iterator[Finding]:
    if _fallen(config, animal, sim):
        up = sim.sensors[0, animal.layout.trunk_zaxis]
        problem = (
            f"trunk_zaxis reads {' '.join(f'{x + 0.0:.2g}' for x in up)}, expected 0 0 1: each episode ends at once"
        )
        yield Finding("home", problem, "Turn the site trunk: its x forward, its z up")


def _check_forward(config: Config, animal: Animal, sim: CpuSimulation) -> Iterator[Finding]:
    nose = sim.sensors[0, animal.layout.trunk_xaxis]
    if np.linalg.norm(nose[:2]) < 0.5:
        problem = f"trunk_xaxis reads {' '.join(f'{x + 0.0:.2g}' for x in nose)}, expected the nose's direction"
        yield Finding("home", problem, "Turn the site trunk: its x forward, its z up")


def _check_sunk(config: Config, animal: Animal, sim: CpuSimulation) -> Iterator[Finding]:
    model, floor = animal.model, floors(animal.model)
    data = mujoco.MjData(model)
    data.qpos[:] = animal.home_qpos
    mujoco.mj_forward(model, data)
    touching = data.contact.dist[np.isin(data.contact.geom, floor).any(axis=1)]
    depth = -float(touching.min(initial=0.0))
    if depth > SUNK * animal.home_height:
        height = animal.home_height + depth
        yield Finding("home", f"it is {depth:.2g} m in the floor", f"Type {height:.3g} as third number of its qpos")


_STANDING: tuple[Callable[[Config, Animal, CpuSimulation], Iterator[Finding]], ...] = (
    _check_upright, _check_forward, _check_sunk,
)  # fmt: skip


def _fallen(config: Config, animal: Animal, sim: CpuSimulation) -> bool:
    """Whether the first animal has fallen, as the tasks say it."""
    env, at, sensors = config.env, animal.layout, sim.sensors[0]
    seen = SimpleNamespace(
        height=sensors[at.trunk_pos][2],
        tilt=math.acos(float(np.clip(sensors[at.trunk_zaxis][2], -1.0, 1.0))),
        pitch=math.asin(float(np.clip(-sensors[at.trunk_xaxis][2], -1.0, 1.0))),
    )
    limits = (env.healthy_z_range, env.max_tilt_angle, env.natural_pitch, env.nosedive_termination_threshold)
    return bool(episode.fallen(cast(Signals, seen), *limits))
