"""The zoo: policies that come with dinorl, each with a card of its measured numbers.

A zoo bundle holds the policy and its observation statistics. A card's numbers are shown only while its MJCF is
unchanged.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.table import Table

from dinorl.bundle.bundle import Bundle
from dinorl.bundle.locate import ZOO, zoo
from dinorl.config import ConfigError, base_values
from dinorl.config.species import SPECIES_DIR
from dinorl.files.run_folder import BundleFolder, RunFolder, read_status, write_json
from dinorl.files.untrusted import read_json
from dinorl.reports.evaluation import evaluate

CARD = "card.json"
LARGEST = 1_000_000  # bytes of a bundle
KEPT = [getattr(BundleFolder, name).name for name in ("policy", "normalization", "config", "meta")]
# Overrides of stage or machine, not on cards.
NOT_RECIPE = ("stage", "species", "algo", "recipe", "seed", "warm_start", "hydra", "tracking", "sim.threads")
COLUMNS = (
    "name", "algo", "seed", "steps", "minutes", "falls", "m/s", "gait", "strides/s", "success", "episodes",
)  # fmt: skip


def card(folder: Path) -> dict[str, Any]:
    """Return the card of a zoo bundle."""
    return read_json(folder / CARD)


def add(bundle: Bundle) -> Path:
    """Measure a bundle and copy it into the zoo with its card.

    Returns:
        Its folder in the zoo.

    Raises:
        ConfigError: it is too large.
    """
    cfg = bundle.config
    size = sum((bundle.path / name).stat().st_size for name in KEPT)
    if size > LARGEST:
        raise ConfigError(f"{bundle}: {size:,} bytes; a zoo bundle has at most {LARGEST:,}")
    name = cfg.stage_label if cfg.algo.name == "ppo" else f"{cfg.stage_label}-{cfg.algo.name}"
    written = _card(bundle, f"{cfg.species.name}/{name}")
    folder: Path = SPECIES_DIR / cfg.species.name / ZOO / name
    building = folder.parent / f".{name}"  # the source may be this folder
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    for name in KEPT:
        shutil.copy(bundle.path / name, building / name)
    OmegaConf.save(_portable(OmegaConf.load(bundle.files.config)), BundleFolder(building).config)
    write_json(building / CARD, written)
    shutil.rmtree(folder, ignore_errors=True)
    building.rename(folder)
    return folder


def measure(name: str) -> dict[str, Any]:
    """Measure a zoo policy again and update its card, for example after a metric changed.

    Returns:
        The new evaluation.

    Raises:
        ConfigError: there is no such policy, or its model has changed.
    """
    known = zoo()
    if name not in known:
        raise ConfigError(f"{name}: no such policy in the zoo; there are {', '.join(known)}")
    bundle = Bundle(known[name])
    if why := bundle.outdated():
        raise ConfigError(f"{name}: {why}")
    found = evaluate(bundle) | {"bundle": name}
    write_json(known[name] / CARD, card(known[name]) | {"evaluation": found})
    return found


def table() -> Table:
    """Return the zoo as a table."""
    shown = Table(title="zoo", title_justify="left")
    for column in COLUMNS:
        shown.add_column(column, justify="left" if column in ("name", "algo", "gait") else "right")
    notes = []
    for name, folder in zoo().items():
        about = card(folder)
        cells = _measured(about["evaluation"])
        if why := Bundle(folder).outdated():
            notes.append(f"{name}: {why}")
            cells = ("",) * len(cells)
        minutes = "" if about["stage_seconds"] is None else f"{about['stage_seconds'] / 60.0:.1f}"
        shown.add_row(name, about["algo"], str(about["seed"]), f"{about['timesteps']:,}", minutes, *cells)
    shown.caption = "\n".join(notes) or None
    return shown


def _card(bundle: Bundle, name: str) -> dict[str, Any]:
    """Return the card of a new zoo bundle."""
    meta, run_dir = bundle.meta, bundle.path.parent.parent
    status = read_status(run_dir) or {}
    return {
        "name": name,
        "recipe": _recipe(run_dir),
        "algo": meta["algo"],
        "seed": meta["seed"],
        "timesteps": meta["timesteps"],
        "stage_seconds": status.get("seconds"),
        "gate": status.get("gate"),
        "git_sha": meta["git_sha"],
        "mjcf_sha256": meta["mjcf_sha256"],
        "versions": meta["versions"],
        "evaluation": evaluate(bundle) | {"bundle": name},
    }


def _recipe(run_dir: Path) -> dict[str, Any] | None:
    """Return a run's recipe and overrides, or None if unknown."""
    path = RunFolder(run_dir).hydra / "hydra.yaml"
    if not path.exists():
        return None
    hydra = OmegaConf.load(path).hydra
    typed = [o for o in hydra.overrides.task if not o.lstrip("+").startswith(NOT_RECIPE)]
    return {"name": hydra.runtime.choices.recipe, "overrides": typed}


def _portable(config: Any) -> Any:
    """Return a config without the training machine's folders, store and sweep."""
    return OmegaConf.merge(config, {"warm_start": None, "tracking": base_values().tracking})


def _measured(found: dict[str, Any]) -> tuple[str, ...]:
    """Return the table's cells of an evaluation."""
    return (
        f"{found['fall_rate']:.1%}",
        f"{found['forward_speed_mean_mps']:.2f}",
        found["gait"]["name"],
        f"{found['gait']['stride_hz']:.1f}",
        f"{found['success_rate']:.1%}",
        str(found["episodes"]),
    )
