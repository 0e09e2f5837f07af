"""``dinorl check``: what is wrong or doubtful about an animal's body, all at once."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from dinorl.commands import Parser

SUMMARY = "Check an animal's body: servos, home pose, feet, sensors, mirror."
REFUSED = 2

_SPECIES = "species="


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="species=NAME[,NAME…] (default: all) and other overrides",
        values=_choices,
    )  # fmt: skip
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help="folder with species/ and recipe/ of your own")


def run(options: Namespace) -> int:
    """Check bodies and print tables; return the exit status, 1 if one has a fault."""
    from dinorl.config import compose
    from dinorl.reports.body import parts_table, servos_table, summary
    from dinorl.sim.check import check_body
    from dinorl.tracking.terminal import console, say

    named = [one.removeprefix(_SPECIES) for one in options.overrides if one.startswith(_SPECIES)]
    others = [one for one in options.overrides if not one.startswith(_SPECIES)]
    if options.config_dir:
        others.append(f"hydra.searchpath=[file://{options.config_dir.absolute()}]")
    faulty = False
    for species in named[-1].split(",") if named else _names(options.config_dir):
        report = check_body(compose([f"{_SPECIES}{species}", *others]))
        console().print(parts_table(report))
        if report.servos:
            console().print(servos_table(report))
        say(f"{species}: {summary(report)}")
        faulty |= bool(report.faults)
    return 1 if faulty else 0


def _names(config_dir: Path | None) -> list[str]:
    """Return the animals of a folder of one's own, else dinorl's."""
    from dinorl.config.tree import options

    return sorted(path.stem for path in (config_dir / "species").glob("*.yaml")) if config_dir else options("species")


def _choices() -> list[str]:
    return [f"{_SPECIES}{name}" for name in _names(None)]
