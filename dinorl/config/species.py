"""Species and their models. MuJoCo is imported only where a model is compiled."""

from __future__ import annotations

import contextlib
import hashlib
import json
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from dinorl.config.check import checked
from dinorl.config.errors import ConfigError
from dinorl.config.schema import SpeciesConfig
from dinorl.config.tree import conf_dir, options

SPECIES_DIR = Path(__file__).resolve().parent.parent / "species"


def mjcf_path(species: SpeciesConfig) -> Path:
    """Return the species' MJCF: a path in ``dinorl/species``, or an absolute one."""
    return SPECIES_DIR / species.mjcf


def compile_mjcf(path: Path, timestep: float | None = None, drawn: bool = False) -> Any:
    """Return a file's ``mujoco.MjModel``.

    Args:
        path: of the MJCF.
        timestep: s; default the file's own.
        drawn: with its visual geoms, which cost 10 % of the speed.

    Raises:
        ConfigError: there is no such file, or it does not compile.
    """
    import mujoco

    if not path.is_file():
        raise ConfigError("it does not exist", key="species.mjcf", found=str(path), hint="Type species.mjcf=PATH")
    mujoco.mj_clearCache(mujoco.mj_getCache())  # it tells a mesh's versions apart by whole seconds
    try:
        with mujoco_warnings():
            spec = mujoco.MjSpec.from_file(str(path))
            spec.compiler.discardvisual = not drawn
            if timestep is not None:
                spec.option.timestep = timestep
            return spec.compile()
    except (ValueError, mujoco.FatalError) as error:
        why = " ".join(str(error).split())
        raise ConfigError(f"it does not compile: {why}", key="species.mjcf", found=str(path)) from error


@contextlib.contextmanager
def mujoco_warnings() -> Iterator[list[str]]:
    """Yield a list that receives MuJoCo's warnings, which else go to the terminal and into MUJOCO_LOG.TXT."""
    import mujoco

    found: list[str] = []
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(before or found.append)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield found
    finally:
        mujoco.set_mju_user_warning(before)


def mjcf_hash(species: SpeciesConfig) -> str:
    """Return the SHA-256 of the species' compiled model, the identity of an animal; see :func:`model_hash`.

    Raises:
        ConfigError: it does not compile.
    """
    import mujoco

    path = mjcf_path(species)
    known = _KNOWN.get(path)
    if known is None or known[0] != _stamps(file for file, *_ in known[0]):
        digest = model_hash(compile_mjcf(path))
        known = _KNOWN[path] = (_stamps(mujoco.mju_getXMLDependencies(str(path))), digest)
    return known[1]


def file_hash(species: SpeciesConfig) -> str:
    """Return the SHA-256 of the MJCF's text: the identity in runs and bundles of dinorl 0.1.

    Raises:
        OSError: it cannot be read.
    """
    return hashlib.sha256(mjcf_path(species).read_bytes()).hexdigest()


def same_model(recorded: str, species: SpeciesConfig) -> bool:
    """Whether a recorded identity, of today's kind or dinorl 0.1's, is that of the species' model.

    Raises:
        ConfigError: the model does not compile.
    """
    return recorded in (mjcf_hash(species), file_hash(species))


# Files with time and size, and the model's hash, by MJCF: plans have many jobs.
_Stamps = tuple[tuple[str, int, int], ...]
_KNOWN: dict[Path, tuple[_Stamps, str]] = {}

# Arrays of MjModel that count: no drawing, no paths.
_PHYSICAL = (
    "actuator_", "body_", "dof_", "eq_", "exclude_", "flex_", "geom_", "hfield_", "jnt_", "key_", "mesh_face",
    "mesh_vert", "pair_", "qpos", "sensor_", "site_", "tendon_", "wrap_",
)  # fmt: skip
_DRAWN = ("castshadow", "group", "matid", "pathadr", "rgba", "texcoord", "texcoordadr", "user")
_NAMED = ("body", "joint", "geom", "site", "actuator", "sensor", "key")
_BITS = 2.0**32  # of each number: the last bits differ between machines
_NOTHING = 1e-12


def model_hash(model: Any) -> str:
    """Return the SHA-256 of a ``mujoco.MjModel``'s physics and names.

    Includes and meshes count. Comments, what is only drawn, paths and the timestep do not.
    """
    import mujoco

    digest = hashlib.sha256(model.names.split(b"\0", 1)[0])
    kinds = [getattr(mujoco.mjtObj, f"mjOBJ_{kind.upper()}") for kind in _NAMED]
    counts = (model.nbody, model.njnt, model.ngeom, model.nsite, model.nu, model.nsensor, model.nkey)
    names = [[mujoco.mj_id2name(model, k, i) for i in range(n)] for k, n in zip(kinds, counts, strict=True)]
    digest.update(json.dumps(names).encode())
    arrays = [
        (name, getattr(model, name))
        for name in sorted(dir(model))
        if name.startswith(_PHYSICAL) and not name.endswith(_DRAWN)
    ]
    options = [name for name in sorted(dir(model.opt)) if not name.startswith("_") and name != "timestep"]
    for name, values in arrays + [(name, getattr(model.opt, name)) for name in options]:
        rounded = _rounded(values)
        if rounded.any():  # zeros: a feature that is not used, or not known to an older MuJoCo
            digest.update(f"{name}{rounded.shape}".encode() + rounded.tobytes())
    return digest.hexdigest()


def _rounded(values: Any) -> np.ndarray:
    """Return numbers as float64, rounded alike on every machine."""
    mantissa, exponent = np.frexp(np.asarray(values, dtype="<f8"))
    rounded = np.ldexp(np.round(mantissa * _BITS), exponent) / _BITS
    return np.asarray(np.where(np.abs(rounded) < _NOTHING, 0.0, rounded))


def _stamps(files: Iterable[str]) -> _Stamps:
    """Return each file with its time of change, ns, and size; -1 if it is gone."""
    found = []
    for file in files:
        try:
            about = Path(file).stat()
            found.append((file, about.st_mtime_ns, about.st_size))
        except OSError:
            found.append((file, -1, -1))
    return tuple(found)


def species_config(species: str) -> SpeciesConfig | None:
    """Return a species from its file in ``conf/species``, or None if there is none.

    Raises:
        ConfigError: the file is invalid.
    """
    path = conf_dir() / "species" / f"{species}.yaml"
    if not path.is_file():
        return None
    return checked(SpeciesConfig, OmegaConf.to_container(OmegaConf.load(path).species), "species.")


def foreign_env_key(key: str, species: str) -> ConfigError | None:
    """Return the error of a key of another animal's event, or None."""
    node, _, name = key.partition(".")
    if node != "env":
        return None
    animals = {name: species_config(name) for name in options("species")}
    events = {animal.name: animal.event.keys for animal in animals.values() if animal is not None}
    owners = [owner for owner, keys in events.items() if name in keys.values()]
    if not owners or species not in events or species in owners:
        return None
    role = next(role for role, own in events[owners[0]].items() if own == name)
    instead = events[species].get(role)
    return ConfigError(
        f"means nothing for species={species}; it is a key of {', '.join(owners)}",
        key=key,
        hint=f"Type env.{instead}=…" if instead else "",
    )
