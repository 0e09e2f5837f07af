"""The sensors that every task reads: name, kind, and what each must be attached to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from dinorl.config import SpeciesConfig
from dinorl.sim.findings import Finding, about
from dinorl.tasks.body import Columns, Layout

PART = "sensors"
LEAST_CUTOFF = 1.0  # m, of distance sensors; 0 reads contacts only

_KINDS = {
    "actuatorfrc": "ACTUATORFRC", "actuatorvel": "ACTUATORVEL", "distance": "GEOMDIST", "frameangvel": "FRAMEANGVEL",
    "framelinvel": "FRAMELINVEL", "framepos": "FRAMEPOS", "framexaxis": "FRAMEXAXIS", "framezaxis": "FRAMEZAXIS",
    "subtreelinvel": "SUBTREELINVEL", "touch": "TOUCH",
}  # fmt: skip
_TYPES = {kind: getattr(mujoco.mjtSensor, f"mjSENS_{name}").value for kind, name in _KINDS.items()}
_TRUNK = {
    "trunk_pos": "framepos", "trunk_xaxis": "framexaxis", "trunk_zaxis": "framezaxis", "trunk_linvel": "framelinvel",
    "trunk_angvel": "frameangvel",
}  # fmt: skip


@dataclass(frozen=True)
class Sensor:
    """A sensor that the tasks read."""

    field: str  # of :class:`dinorl.tasks.body.Layout`
    name: str
    kind: str  # element in the MJCF
    attached: str  # its attributes in the MJCF
    body: str = ""  # it must be on this body
    actuator: str = ""  # it must be of this actuator

    @property
    def line(self) -> str:
        """The line for the MJCF."""
        return f'<{self.kind} name="{self.name}" {self.attached}/>'


def sensors_of(species: SpeciesConfig, servos: Sequence[str]) -> list[Sensor]:
    """Return the sensors that the tasks read.

    Args:
        species: names feet and effectors.
        servos: names of the actuators, in order.
    """
    found = [Sensor(name, name, kind, _site("trunk"), "trunk") for name, kind in _TRUNK.items()]
    found.append(Sensor("com_linvel", "com_linvel", "subtreelinvel", 'body="trunk"', "trunk"))
    found.append(Sensor("tail_angvel", "tail_angvel", "frameangvel", _site("tail_tip")))
    found.append(Sensor("target_pos", "target_pos", "framepos", _site("target"), "target"))
    for name in species.event.effectors:
        distance = f'geom1="{name}" geom2="target" cutoff="20"'
        found.append(Sensor("effector_pos", f"{name}_pos", "framepos", _site(name)))
        found.append(Sensor("target_distance", f"{name}_target_distance", "distance", distance, "target"))
    for name in species.feet:
        found.append(Sensor("foot_touch", f"{name}_touch", "touch", f'site="{name}"'))
        found.append(Sensor("foot_linvel", f"{name}_linvel", "framelinvel", _site(name)))
    for name in servos:
        of = f'actuator="{name}"'
        found.append(Sensor("servo_force", f"{name}_force", "actuatorfrc", of, actuator=name))
        found.append(Sensor("servo_velocity", f"{name}_velocity", "actuatorvel", of, actuator=name))
    return found


def _site(name: str) -> str:
    return f'objtype="site" objname="{name}"'


def layout_of(model: mujoco.MjModel, species: SpeciesConfig, servos: Sequence[str]) -> Layout:
    """Return the columns of ``sensordata`` of a model with all its sensors."""
    spans: dict[str, list[slice]] = {}
    for sensor in sensors_of(species, servos):
        index = sensor_id(model, sensor.name)
        start = int(model.sensor_adr[index])
        spans.setdefault(sensor.field, []).append(slice(start, start + int(model.sensor_dim[index])))
    columns: dict[str, Any] = {field: span[0] for field, span in spans.items()}
    columns |= {field: tuple(spans[field]) for field in ("effector_pos", "foot_linvel")}
    for field in ("target_distance", "foot_touch", "servo_force", "servo_velocity"):
        columns[field] = evenly(np.array([span.start for span in spans[field]]))
    return Layout(**columns)


def evenly(columns: np.ndarray) -> Columns:
    """Return rising, evenly spaced columns as a slice, to avoid a copy; others unchanged."""
    steps = np.unique(np.diff(columns))
    if columns.size == 1:
        return slice(int(columns[0]), int(columns[0]) + 1)
    if steps.size == 1 and steps[0] > 0:
        return slice(int(columns[0]), int(columns[-1]) + 1, int(steps[0]))
    return columns


def sensor_id(model: mujoco.MjModel, name: str) -> int:
    """Return a sensor's number; -1 if there is none of that name."""
    return int(mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SENSOR.value, name))


def body_of(model: mujoco.MjModel, kind: int, index: int) -> int:
    """Return the body of a site, geom or camera, or the body itself; -1 for other objects."""
    owners = {
        mujoco.mjtObj.mjOBJ_SITE.value: model.site_bodyid, mujoco.mjtObj.mjOBJ_GEOM.value: model.geom_bodyid,
        mujoco.mjtObj.mjOBJ_CAMERA.value: model.cam_bodyid,
    }  # fmt: skip
    if kind in (mujoco.mjtObj.mjOBJ_BODY.value, mujoco.mjtObj.mjOBJ_XBODY.value):
        return index
    return int(owners[kind][index]) if kind in owners else -1


def place_of(model: mujoco.MjModel, data: mujoco.MjData, sensor: str) -> np.ndarray:
    """Return where the object of a sensor is, (3,) m, world."""
    index = sensor_id(model, sensor)
    kind, own = model.sensor_objtype[index], int(model.sensor_objid[index])
    places = {mujoco.mjtObj.mjOBJ_SITE.value: data.site_xpos, mujoco.mjtObj.mjOBJ_GEOM.value: data.geom_xpos}
    return np.array(places[kind][own] if kind in places else data.xpos[body_of(model, kind, own)])


def check_sensors(model: mujoco.MjModel, species: SpeciesConfig, servos: Sequence[str]) -> Iterator[Finding]:
    """Yield missing sensors and those of another kind or place."""
    expected = sensors_of(species, servos)
    by_kind: dict[str, list[Sensor]] = {}
    for sensor in expected:
        if sensor_id(model, sensor.name) < 0:
            by_kind.setdefault(sensor.kind, []).append(sensor)
    for missing in by_kind.values():
        names, more = ", ".join(repr(sensor.name) for sensor in missing), " and so on" if len(missing) > 1 else ""
        yield Finding(PART, f"found no sensor {names}", f"Type {missing[0].line}{more} in <sensor>")
    for sensor in expected:
        index = sensor_id(model, sensor.name)
        if index < 0:
            continue
        if model.sensor_type[index] != _TYPES[sensor.kind]:
            found = mujoco.mjtSensor(model.sensor_type[index]).name.removeprefix("mjSENS_").lower()
            yield Finding(PART, f"{sensor.name}: found a {found}, expected <{sensor.kind}>", f"Type {sensor.line}")
        elif not _attached(model, index, sensor):
            expects = f"actuator {sensor.actuator}" if sensor.actuator else f"body {sensor.body}"
            yield Finding(PART, f"{sensor.name}: it is not of {expects}", f"Type {sensor.line}")
    yield from _check_settings(model, expected)


def _attached(model: mujoco.MjModel, index: int, sensor: Sensor) -> bool:
    """Whether a sensor is of the body or actuator that it must be of."""
    own, ref = int(model.sensor_objid[index]), int(model.sensor_refid[index])
    if sensor.actuator:
        return bool(mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_ACTUATOR.value, own) == sensor.actuator)
    body = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY.value, sensor.body) if sensor.body else -1
    if body < 0:  # any body, or one whose absence is said elsewhere
        return True
    bodies = [body_of(model, model.sensor_objtype[index], own)]
    if sensor.kind == "distance":
        bodies.append(body_of(model, model.sensor_reftype[index], ref))
    return body in bodies


def _check_settings(model: mujoco.MjModel, expected: list[Sensor]) -> Iterator[Finding]:
    """Yield sensors in another frame, or that see too little."""
    known = [(sensor, sensor_id(model, sensor.name)) for sensor in expected]
    found = [(s, i) for s, i in known if i >= 0 and model.sensor_type[i] == _TYPES[s.kind]]
    framed = [s.name for s, i in found if s.kind.startswith("frame") and model.sensor_refid[i] >= 0]
    yield from about(PART, framed, "it reads in another frame, expected the world's", "Remove reftype and refname")
    blind = [s.name for s, i in found if s.kind == "distance" and model.sensor_cutoff[i] < LEAST_CUTOFF]
    yield from about(PART, blind, "its cutoff hides the target", 'Type cutoff="20"')
    cut = [s.name for s, i in found if s.kind != "distance" and model.sensor_cutoff[i] > 0.0]
    yield from about(PART, cut, "a cutoff clips its readings", "Remove cutoff", fault=False)
