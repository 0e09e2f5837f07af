"""Finds bundles by path, run id or name. Imports nothing heavy: every plan uses it."""

from __future__ import annotations

from pathlib import Path

from dinorl.config import ConfigError
from dinorl.config.species import SPECIES_DIR
from dinorl.files.run_folder import META

ZOO = "zoo"


def zoo() -> dict[str, Path]:
    """Return dinorl's zoo bundles by name, such as ``trex/bite`` (PPO's) and ``trex/bite-sac``."""
    folders = sorted(path.parent for path in SPECIES_DIR.glob(f"*/{ZOO}/*/{META}"))
    return {f"{folder.parent.parent.name}/{folder.name}": folder for folder in folders}


def resolve(where: str | Path) -> Path:
    """Return a bundle by path, run folder (its best bundle), MLflow run id or zoo name.

    Raises:
        ConfigError: there is none.
    """
    path = Path(where)
    for candidate in (path, path / "best", path / "bundle" / "best", *numbered(path / "bundle"), *numbered(path)):
        if (candidate / META).is_file():
            return candidate
    if not path.exists() and (shipped := zoo().get(str(where))):
        return shipped
    if not path.exists() and len(str(where)) == 32 and all(c in "0123456789abcdef" for c in str(where)):
        from dinorl.tracking.runs import run_folder

        folder = run_folder(str(where))
        if folder is not None:
            return resolve(folder)
    found = "it does not exist" if not path.exists() else f"found no {META} in it, in bundle/ or in bundle/best/"
    species = str(where).partition("/")[0]
    names = ", ".join(name for name in zoo() if name.startswith(f"{species}/")) or "one that dinorl zoo list shows"
    raise ConfigError(
        f"{where}: no bundle there: {found}. Give the path of a bundle, of a stage's run folder, an MLflow run id, or "
        f"a name of the zoo: {names}"
    )


def numbered(folder: Path) -> list[Path]:
    """Return the numbered bundles of a ``bundle`` folder, newest first."""
    if not folder.is_dir():
        return []
    return sorted((p for p in folder.iterdir() if p.name.isdigit()), key=lambda p: int(p.name), reverse=True)
