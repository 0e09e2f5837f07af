"""The policies that come with dinorl: ``python -m dinorl.zoo list``; ``add RUN`` puts one in, ``measure NAME`` measures
one again.

A zoo bundle holds the policy and its statistics, and a card with what was measured of it. Its numbers are those of one
animal: if the MJCF has changed since, they are not claimed any more.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from dinorl.config import ConfigError, base_values
from dinorl.config.species import SPECIES_DIR
from dinorl.files.untrusted import read_json

CARD = "card.json"
LARGEST = 1_000_000  # bytes of a bundle


def card(bundle: Path) -> dict[str, Any]:
    """Return what is known of a zoo bundle."""
    return read_json(bundle / CARD)


def outdated(source: Path) -> str | None:
    """Return why a bundle's numbers hold no longer, or None if they do: its animal must be today's."""
    from dinorl.bundle import bundle
    from dinorl.config.species import mjcf_hash

    meta = bundle.load_meta(source)
    if meta["mjcf_sha256"] == mjcf_hash(bundle.load_config(source).species):
        return None
    return f"the model of {meta['species']} has changed since this policy was trained; its numbers hold no longer"


def add(run: Path) -> Path:
    """Measure the best bundle of a run and put it into the zoo, with its card.

    Raises:
        ConfigError: there is no bundle, or it is too large.
    """
    from dinorl.bundle import bundle, locate
    from dinorl.files.run_folder import read_status, write_json
    from dinorl.reports.evaluation import evaluate

    source = locate.resolve(run)
    cfg, meta = bundle.load_config(source), bundle.load_meta(source)
    stage = cfg.species.event.name if cfg.stage.name == "behavior" else cfg.stage.name
    kept = (bundle.POLICY, bundle.NORMALIZATION, bundle.CONFIG, "meta.json")
    size = sum((source / name).stat().st_size for name in kept)
    if size > LARGEST:
        raise ConfigError(f"{source}: {size:,} bytes; a zoo bundle has at most {LARGEST:,}")
    run_dir = source.parent.parent
    status = read_status(run_dir) or {}
    written = {
        "name": f"{cfg.species.name}/{stage}",
        "recipe": _recipe(run_dir),
        "algo": meta["algo"],
        "seed": meta["seed"],
        "timesteps": meta["timesteps"],
        "stage_seconds": status.get("seconds"),
        "gate": status.get("gate"),
        "git_sha": meta["git_sha"],
        "mjcf_sha256": meta["mjcf_sha256"],
        "versions": meta["versions"],
        "evaluation": evaluate(source) | {"bundle": f"{cfg.species.name}/{stage}"},
    }
    folder = SPECIES_DIR / cfg.species.name / locate.ZOO / stage
    building = folder.parent / f".{stage}"  # the source may be what is replaced
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    for name in kept:
        shutil.copy(source / name, building / name)
    OmegaConf.save(_without_places(OmegaConf.load(source / bundle.CONFIG)), building / bundle.CONFIG)
    write_json(building / CARD, written)
    shutil.rmtree(folder, ignore_errors=True)
    building.rename(folder)
    return folder


def measure(name: str) -> dict[str, Any]:
    """Measure a zoo policy again, for its card: after a metric has changed; return what was found.

    Raises:
        ConfigError: there is none of that name, or it is of another MJCF than today's.
    """
    from dinorl.bundle.locate import zoo
    from dinorl.files.run_folder import write_json
    from dinorl.reports.evaluation import evaluate

    known = zoo()
    if name not in known:
        raise ConfigError(f"{name}: no such policy in the zoo; there are {', '.join(known)}")
    if why := outdated(known[name]):
        raise ConfigError(f"{name}: {why}")
    found = evaluate(known[name]) | {"bundle": name}
    write_json(known[name] / CARD, card(known[name]) | {"evaluation": found})
    return found


def _recipe(run_dir: Path) -> dict[str, Any] | None:
    """Return the recipe that a run was composed with, and what was overridden of it; None if it is not known."""
    path = run_dir / ".hydra" / "hydra.yaml"
    if not path.exists():
        return None
    hydra = OmegaConf.load(path).hydra
    chosen = ("stage", "species", "algo", "recipe", "seed", "warm_start", "hydra", "tracking", "sim.threads")
    typed = [o for o in hydra.overrides.task if not o.lstrip("+").startswith(chosen)]
    return {"name": hydra.runtime.choices.recipe, "overrides": typed}


def _without_places(config: Any) -> Any:
    """Return a config without what is true on the machine that trained it alone: folders, the store, the sweep."""
    return OmegaConf.merge(config, {"warm_start": None, "tracking": base_values().tracking})


def table() -> Any:
    """Return what is in the zoo, as a table for people."""
    from rich.table import Table

    from dinorl.bundle.locate import zoo

    shown = Table(title="zoo", title_justify="left")
    for column in (
        "name",
        "algo",
        "seed",
        "steps",
        "minutes",
        "falls",
        "m/s",
        "gait",
        "strides/s",
        "success",
        "episodes",
    ):
        shown.add_column(column, justify="left" if column in ("name", "algo", "gait") else "right")
    notes = []
    for name, folder in zoo().items():
        about = card(folder)
        found = about["evaluation"]
        cells: tuple[str, ...] = (
            f"{found['fall_rate']:.1%}", f"{found['forward_speed_mean_mps']:.2f}", found["gait"]["name"],
            f"{found['gait']['stride_hz']:.1f}", f"{found['success_rate']:.1%}", str(found["episodes"]),
        )  # fmt: skip
        if why := outdated(folder):
            notes.append(f"{name}: {why}")
            cells = ("",) * len(cells)
        minutes = "" if about["stage_seconds"] is None else f"{about['stage_seconds'] / 60.0:.1f}"
        shown.add_row(name, about["algo"], str(about["seed"]), f"{about['timesteps']:,}", minutes, *cells)
    shown.caption = "\n".join(notes) or None
    return shown


def main(arguments: list[str] | None = None) -> int:
    """List the zoo or add to it; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m dinorl.reports.zoo", description="The policies that come with dinorl."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="what there is, and what was measured of it")
    commands.add_parser("add", help="measure a run's best policy and put it in").add_argument("run", type=Path)
    again = commands.add_parser("measure", help="measure policies again, for their cards")
    again.add_argument("names", nargs="+", metavar="name")
    chosen = parser.parse_args(arguments)
    from dinorl.tracking.terminal import console

    if chosen.command == "list":
        console().print(table())
        return 0
    try:
        if chosen.command == "add":
            print(f"wrote {add(chosen.run)}")
        else:
            for name in chosen.names:
                measure(name)
                print(f"measured {name}")
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
