"""Bodies of one's own: each fault is said before training, all of a file at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from commands import dinorl_here, word

from dinorl.config import Config, ConfigError, compose
from dinorl.config.species import SPECIES_DIR, mjcf_path
from dinorl.sim.check import check_bodies, check_body
from dinorl.sim.model import Animal
from dinorl.sim.symmetry import named_partner, symmetry_of
from tests.conftest import SPECIES

Edit = Callable[[ET.Element], None]
SERVOS = [element.get("name", "") for element in ET.parse(SPECIES_DIR / "trex/trex.xml").find("actuator") or ()]


@cache
def config(species: str = "trex", *overrides: str) -> Config:
    return compose([f"species={species}", "stage=balance", *overrides])


def body(folder: Path, *edits: Edit, species: str = "trex", **changes: Any) -> Config:
    """Write a shipped body with some edits, and return its config; ``changes`` are of the species file."""
    cfg = config(species)
    tree = ET.parse(mjcf_path(cfg.species))
    for edit in edits:
        edit(tree.getroot())
    path = folder / f"{species}.xml"
    tree.write(path)
    return replace(cfg, species=replace(cfg.species, mjcf=str(path), **changes))


def put(where: str, **attributes: str | None) -> Edit:
    """Set or remove attributes of all elements that match."""

    def edit(root: ET.Element) -> None:
        found = root.findall(where)
        assert found, where
        for element in found:
            for name, value in attributes.items():
                element.attrib.pop(name.strip("_"), None)
                if value is not None:
                    element.set(name.strip("_"), value)

    return edit


def retype(where: str, tag: str, **attributes: str | None) -> Edit:
    """Make other elements of all that match."""

    def edit(root: ET.Element) -> None:
        found = root.findall(where)
        put(where, class_=None, **attributes)(root)
        for element in found:
            element.tag = tag

    return edit


def drop(where: str) -> Edit:
    """Remove all elements that match."""

    def edit(root: ET.Element) -> None:
        found = [(above, one) for above in root.iter() for one in above if one in root.findall(where)]
        assert found, where
        for above, one in found:
            above.remove(one)

    return edit


def add(where: str, text: str, first: bool = False) -> Edit:
    """Add an element below the first that matches."""

    def edit(root: ET.Element) -> None:
        above = root.find(where)
        assert above is not None, where
        above.insert(0 if first else len(above), ET.fromstring(text))

    return edit


def named(tag: str, name: str) -> str:
    return f".//{tag}[@name='{name}']"


def faults(cfg: Config) -> list[str]:
    """Return the lines of the one error that refuses a plan."""
    with pytest.raises(ConfigError) as refused:
        check_bodies([cfg])
    head, *lines = str(refused.value).split("\n  ")
    assert head.startswith(f"species.mjcf={cfg.species.mjcf}: ")
    return lines or [head.partition(f"{cfg.species.mjcf}: ")[2]]


KNEE, HIP = named("position", "knee_l"), named("position", "hip_roll_l")
HOME = named("key", "home")

LEG = ("hip_yaw", "hip_roll", "hip_pitch", "knee", "ankle")

# edits, changes of the species file, beginning and end of each fault
BROKEN: dict[str, tuple[list[Edit], dict[str, Any], list[str]]] = {
    "motor": (
        [retype(KNEE, "motor", ctrlrange="-1 1"), retype(HIP, "motor", ctrlrange="-1 1")], {},
        ["servos: hip_roll_l, knee_l: found <motor>, expected <position>"],
    ),
    "velocity": ([retype(KNEE, "velocity", kv="3")], {}, ["servos: knee_l: found <velocity>, expected <position>"]),
    "integrated": (
        [retype(KNEE, "intvelocity", kp="3", actrange="-1 1")], {}, ["servos: knee_l: found <intvelocity>, expected"],
    ),
    "tendon": (
        [
            add(".", "<tendon><fixed name='cord'><joint joint='knee_l' coef='1'/></fixed></tendon>"),
            put(KNEE, joint=None, tendon="cord", inheritrange="0", ctrlrange="-1 1"),
        ], {},
        ["servos: knee_l: found a tendon, expected a hinge joint: angles are rad. Type joint="],
    ),
    "slide": ([put(named("joint", "knee_l"), type="slide")], {}, ["servos: knee_l: found a slide joint"]),
    "no ctrlrange": (
        [put(KNEE, inheritrange="0")], {},
        ['servos: knee_l: no ctrlrange; actions do nothing. Type inheritrange="1" on the servo'],
    ),
    "unlimited": (
        [put(named("joint", "knee_l"), limited="false"), put(KNEE, inheritrange="0", ctrlrange="-1 1")], {},
        ['servos: knee_l: its joint has no limits. Type range="-0.8 0.8" on the joint'],
    ),
    "unnamed": (
        [
            put(KNEE, name=None), put(HIP, name=None), drop(".//*[@actuator='knee_l']"),
            drop(".//*[@actuator='hip_roll_l']"),
        ], {},
        ["servos: actuator 4 on hip_roll_l, actuator 6 on knee_l: no name; its sensors go by it. Type name="],
    ),
    "two servos": (
        [put(KNEE, joint="knee_r")], {}, ["servos: knee_r: several servos drive the joint; expected one. Remove"],
    ),
    "geared": ([put(KNEE, gear="2")], {}, ["servos: knee_l: gear is not 1, so a command is no angle. Remove gear"]),
    "no trunk": (
        [put(named("body", "trunk"), name="root"), put(".//sensor/*[@body='trunk']", body="root")], {},
        ['trunk: found no body of that name. Type <body name="trunk"> for the root of the animal'],
    ),
    "no freejoint": (
        [drop(".//freejoint"), put(HOME, qpos=" ".join("0" * 17))], {},
        ["freejoint: body trunk has none that is the first joint of the file; it cannot move. Type <freejoint name="],
    ),
    "second freejoint": (
        [
            add("worldbody", "<body name='ball'><freejoint/><geom size='0.1' mass='1'/></body>", first=True),
            put(HOME, qpos=f"0 0 3 1 0 0 0 0 0 0.9 1 0 0 0 {' '.join('0' * 17)}"),
        ], {},
        ["freejoint: body trunk has none that is the first joint of the file"],
    ),
    "pitched home": (
        [put(HOME, qpos=f"0 0 0.9 0.98 0 0.2 0 {' '.join('0' * 17)}")], {},
        ["home: it tilts the trunk: quaternion 0.98 0 0.2 0, expected 1 0 0 0. Type 1 0 0 0 in its qpos"],
    ),
    "no home": ([drop("keyframe")], {}, ["home: found no keyframe of that name; it is the pose of action 0"]),
    "home out of range": (
        [put(HOME, qpos=f"0 0 0.9 1 0 0 0 1.5 {' '.join('0' * 16)}", ctrl=f"0 1.5 {' '.join('0' * 15)}")], {},
        ["servos: neck_yaw: the home command is out of its ctrlrange", "servos: neck_yaw: the home pose is out of"],
    ),
    "sunk": ([put(HOME, qpos=f"0 0 0.7 1 0 0 0 {' '.join('0' * 17)}")], {}, ["home: it is 0.2 m in the floor."]),
    "high": (
        [put(HOME, qpos=f"0 0 1.4 1 0 0 0 {' '.join('0' * 17)}")], {},
        ["home: the trunk is at 1.4 m, env.healthy_z_range=[0.55,1.15]: each episode ends at once. Type env."],
    ),
    "no floor": ([drop(named("geom", "floor"))], {}, ["floor: found none that collides in the world"]),
    "painted floor": (
        [put(named("geom", "floor"), contype="0", conaffinity="0")], {}, ["floor: found none that collides"],
    ),
    "painted soles": (
        [put(".//default[@class='sole']/geom", conaffinity="0")], {},
        ["feet: foot_l, foot_r: no load within 0.5 s in the home pose. Let its geoms collide with the floor"],
    ),
    "blind sole": (
        [put(named("site", "foot_l"), size="0.001 0.001 0.001")], {},
        ["feet: foot_l: no load within 0.5 s in the home pose"],
    ),
    "one foot": (
        [], {"feet": ["foot_l"], "gait_phase": [0.0]},
        ["feet: species.feet=[foot_l]: expected pairs of left and right, each foot once. Type species.feet=[foot_l,"],
    ),
    "three feet": (
        [], {"feet": ["foot_l", "foot_r", "tail"]},
        [
            "feet: species.feet=[foot_l,foot_r,tail]: expected pairs", "feet: species.gait_phase has 2 numbers, exp",
            'sensors: found no sensor \'tail_touch\'. Type <touch name="tail_touch" site="tail"/> in <sensor>',
            "sensors: found no sensor 'tail_linvel'",
        ],
    ),
    "no feet": (
        [], {"feet": [], "gait_phase": []}, ["feet: species.feet=[]: expected pairs of left and right, each foot once"],
    ),
    "front with rear": (
        [], {"species": "brachiosaurus", "feet": ["foot_fl", "foot_hl", "foot_fr", "foot_hr"]},
        [
            "feet: foot_fl, foot_hl: not left and right of one girdle. Type species.feet=[foot_fl,foot_fr,",
            "feet: foot_fr, foot_hr: not left and right of one girdle",
            "mirror: species.gait_phase=[0.75, 0.25, 0.5, 0.0] has left and right neither in turn nor at once",
        ],
    ),
    "no target": (
        [drop(named("body", "target")), drop(named("framepos", "target_pos")), drop(".//distance")], {},
        [
            'target: found no body of that name. Type <body name="target" mocap="true"',
            "sensors: found no sensor 'target_pos'", "sensors: found no sensor 'jaw_target_distance'",
        ],
    ),
    "still target": (
        [put(named("body", "target"), mocap=None)], {}, ["target: body target is no mocap body; it cannot be placed"],
    ),
    "no camera": (
        [put(named("camera", "track"), name="follow")], {}, ["camera: found none named track; films need it"],
    ),
    "no sensors": (
        [drop("sensor")], {},
        [
            "sensors: found no sensor 'trunk_pos', 'target_pos', 'jaw_pos'. Type <framepos",
            "sensors: found no sensor 'trunk_xaxis'", "sensors: found no sensor 'trunk_zaxis'",
            "sensors: found no sensor 'trunk_linvel', 'foot_l_linvel', 'foot_r_linvel'",
            "sensors: found no sensor 'trunk_angvel', 'tail_angvel'", "sensors: found no sensor 'com_linvel'",
            "sensors: found no sensor 'jaw_target_distance'", "sensors: found no sensor 'foot_l_touch', 'foot_r_touch'",
            f"sensors: found no sensor {', '.join(repr(f'{name}_force') for name in SERVOS)}. Type <actuatorfrc",
            f"sensors: found no sensor {', '.join(repr(f'{name}_velocity') for name in SERVOS)}. Type <actuatorvel",
        ],
    ),
    "sensor of another size": (
        [retype(named("framepos", "trunk_pos"), "framequat")], {},
        ["sensors: trunk_pos: found a framequat, expected <framepos>. Type <framepos name"],
    ),
    "sensor of another frame": (
        [retype(named("frameangvel", "trunk_angvel"), "gyro", objtype=None, objname=None, site="trunk")], {},
        ["sensors: trunk_angvel: found a gyro, expected <frameangvel>"],
    ),
    "relative sensor": (
        [put(named("framepos", "jaw_pos"), reftype="site", refname="trunk")], {},
        ["sensors: jaw_pos: it reads in another frame, expected the world's. Remove reftype and refname"],
    ),
    "sensor of another servo": (
        [put(named("actuatorfrc", "knee_l_force"), actuator="knee_r")], {},
        ["sensors: knee_l_force: it is not of actuator knee_l. Type <actuatorfrc"],
    ),
    "short sight": (
        [put(named("distance", "jaw_target_distance"), cutoff="0")], {},
        ['sensors: jaw_target_distance: its cutoff hides the target. Type cutoff="20"'],
    ),
    "turned trunk": (
        [put(named("site", "trunk"), euler="1.57 0 0")], {},
        ["home: trunk_zaxis reads 0 -1 0.0008, expected 0 0 1: each episode ends at once. Turn the site trunk"],
    ),
    "no bonus": (
        [], {"event": replace(config().species.event, keys={"bonus": "bite_bonus"})},
        [
            "event: species.event.keys has no distance_range. Type distance_range: bite_distance_range there, and",
            "event: species.event.keys has no lateral_range",
        ],
    ),
    "no gravity": ([put("option", gravity="0 0 0")], {}, ["options: gravity is 0 0 0, expected it to pull down"]),
    "no contacts": ([put("option/flag", contact="disable")], {}, ["options: contact: switched off. Remove"]),
    "limp": (
        [put(named("joint", "knee_l"), range="-0.5 0.9"), put(KNEE, kp="500")], {},
        ["mirror: joints knee_l and knee_r differ in range, kp or kv. Mend it, or type ppo.policy_kwargs.mirror=false"],
    ),
    "moved hip": (
        [put(named("body", "thigh_l"), pos="0.1 0.14 0")], {},
        [
            *(f"mirror: joints {name}_l and {name}_r differ in place or axis" for name in LEG),
            "mirror: foot_l at (0.159, 0.140, -0.886) has no partner on the other side", "mirror: foot_r at",
        ],
    ),
    "no XML": ([put(named("geom", "floor"), type="sphere", size="-1")], {}, ["model: it does not compile: "]),
    "no included file": ([add(".", "<include file='leg.xml'/>")], {}, ["model: it does not compile: XML Error"]),
    "many": (
        [drop(named("geom", "floor")), put(KNEE, name="knee"), drop(named("site", "tail_tip")), drop(HOME),
         drop(named("frameangvel", "tail_angvel")), drop(".//*[@actuator='knee_l']"), put(HIP, inheritrange="0")],
        {},
        ["home: found no keyframe", "floor: found none", "servos: hip_roll_l: no ctrlrange",
         "sensors: found no sensor 'tail_angvel'", "sensors: found no sensor 'knee_force'",
         "sensors: found no sensor 'knee_velocity'"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_fault_refuses_plan(case: str, tmp_path: Path) -> None:
    edits, changes, expected = BROKEN[case]
    found = faults(body(tmp_path, *edits, **changes))
    assert len(found) == len(expected), "\n".join(found)
    for line in expected:
        assert any(one.startswith(line) for one in found), f"{line}: not in\n" + "\n".join(found)
    assert all(re.search(r"\. (Type|Let|Turn|Mend|Remove) .", one) for one in found), "each says what to type"


DOUBTFUL: dict[str, tuple[list[Edit], str]] = {
    "wide": (
        [put(named("joint", "knee_l"), range="-0.85 3.6"), put(named("joint", "knee_r"), range="-0.85 3.6")],
        "servos: knee_l 3.6 rad, knee_r 3.6 rad: an action of 1 moves it that far from home. Narrow the joint's range",
    ),
    "timestep": ([put("option", timestep="0.002")], "timestep: the file's own is 0.002 s, sim.timestep=0.004 replaces"),
    "sparse": ([put("option", jacobian="sparse")], "options: the Jacobian is sparse; MuJoCo 4.0.0 has a solver"),
    "passive": (
        [add(named("body", "tail_2"), "<joint name='wag' axis='1 0 0' range='-0.1 0.1'/>", first=True),
         put(HOME, qpos=f"0 0 0.9 1 0 0 0 {' '.join('0' * 18)}")],
        "servos: wag: no servo; no action moves the joint, and the policy does not see it",
    ),
    "home command": (
        [put(HOME, ctrl=f"0.2 {' '.join('0' * 16)}")],
        "servos: neck_pitch 0 → 0.2: action 0 moves it away from the home pose. Type its qpos as ctrl",
    ),
    "beyond": (
        [put(named("position", "neck_pitch"), inheritrange="0", ctrlrange="-1.5 1.5")],
        "servos: neck_pitch: ctrlrange goes beyond the joint's range",
    ),
    "warned": ([put("statistic", center="0 0 nan")], "model: MuJoCo warns: XML contains a 'NaN'"),
    "falls": (
        [put(".//default/position[@kp]", kp="2", kv="0")],
        "home: it falls after 0.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", DOUBTFUL)
def test_doubt_only_warns(case: str, tmp_path: Path) -> None:
    edits, expected = DOUBTFUL[case]
    found = check_bodies([body(tmp_path, *edits)])
    assert len(found) == 1 and found[0].startswith(f"doubt: trex.xml: {expected}"), found


@pytest.mark.parametrize("species", SPECIES)
def test_shipped_body_is_sound(species: str) -> None:
    report = check_body(config(species))
    assert not report.findings
    assert report.facts["stand"].startswith("stands: ") and "pairs of joints" in report.facts["mirror"]


def test_animal_refuses_all_faults(tmp_path: Path) -> None:
    broken = body(tmp_path, drop("sensor"), drop("keyframe"))
    with pytest.raises(ConfigError, match=r"(?s)11 faults.*found no keyframe.*knee_l_velocity"):
        Animal(broken.species, broken.sim)


def test_plan_refused_without_traces(tmp_path: Path) -> None:
    broken = body(tmp_path / "..", drop("sensor"), drop(named("geom", "floor"))).species.mjcf
    refused = dinorl_here(tmp_path, "species=trex", f"species.mjcf={broken}", "plan_only=true")
    assert refused.returncode == 2 and list(tmp_path.iterdir()) == []
    assert refused.stderr.startswith(f"dinorl: species.mjcf={broken}: 11 faults\n  floor: ")
    assert "Traceback" not in refused.stderr


def test_plan_prints_doubts(tmp_path: Path) -> None:
    path = body(tmp_path, put("option", timestep="0.002")).species.mjcf
    planned = dinorl_here(tmp_path, "species=trex", f"species.mjcf={path}", "plan_only=true", "stage=balance")
    assert planned.returncode == 0, planned.stderr
    assert [line for line in planned.stdout.splitlines() if line.startswith("doubt: trex.xml: timestep: ")]


def test_check_prints_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert word("check", "species=trex,velociraptor") == 0
    shown = capsys.readouterr().out
    assert "trex: no faults, no doubts" in shown and "velociraptor: no faults, no doubts" in shown
    assert re.search(r"hip_roll_l +│ position │ hinge +│ -0.35 … 0.60 │ 0.00 │ +-0.35 │ +\+0.60", shown)
    broken = body(tmp_path, drop(named("geom", "floor")), put(KNEE, inheritrange="0")).species.mjcf
    assert word("check", "species=trex", f"species.mjcf={broken}") == 1
    shown = capsys.readouterr().out
    assert "trex: 2 faults, no doubts" in shown and "fault: found none that collides in the world" in shown


def test_check_reads_own_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.test_new_species import add_species

    add_species(tmp_path)
    assert word("check", "--config-dir", tmp_path / "conf") == 0
    assert "troodon: no faults, no doubts" in capsys.readouterr().out


NAMINGS = {
    "FL_hip_joint": (r"(.*)_([fh])([lr])", lambda m: f"{m[2]}{m[3]}_{m[1]}_joint".upper()),
    "left_front": (r"(.*)_([fh])([lr])", lambda m: f"{'left' if m[3] == 'l' else 'right'}_{m[2]}_{m[1]}"),
    "numbers": (r"(.*)_([fh])([lr])", lambda m: f"j{len(m[1])}{ord(m[1][0])}_{ord(m[2]) * 7 + ord(m[3]) * 3}"),
}


@pytest.mark.parametrize("naming", NAMINGS)
def test_mirror_ignores_names(naming: str, tmp_path: Path) -> None:
    pattern, renamed = NAMINGS[naming]

    def edit(root: ET.Element) -> None:
        for element in [*root.iter("joint"), *root.iter("position")]:
            for key in ("name", "joint"):
                if (found := re.fullmatch(pattern, element.get(key, ""))) and (
                    key == "joint" or element.tag == "joint"
                ):
                    element.set(key, renamed(found))

    made = body(tmp_path, edit, species="brachiosaurus")
    shipped = symmetry_of(Animal(config("brachiosaurus").species, made.sim).model, made.species)
    found = symmetry_of(Animal(made.species, made.sim).model, made.species)
    assert not found.problems
    np.testing.assert_array_equal(found.servos, shipped.servos)
    np.testing.assert_array_equal(found.signs, shipped.signs)


@pytest.mark.parametrize("one, other", [
    ("FL_hip_joint", "FR_hip_joint"), ("LF_HAA", "RF_HAA"), ("hip_l", "hip_r"), ("left_hip", "right_hip"),
    ("hip.rl.knee", "hip.rr.knee"), ("LeftKnee", "RightKnee"), ("kneeL", "kneeR"), ("hipleft2", "hipright2"),
])  # fmt: skip
def test_common_names_pair(one: str, other: str) -> None:
    assert named_partner(one, [one, other, "tail"]) == other
    assert named_partner(other, [one, other, "tail"]) == one
    assert named_partner("tail", [one, other, "tail"]) is None
