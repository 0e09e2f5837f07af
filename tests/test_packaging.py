"""The wheel is complete, the lock is exact, and README, Makefile and CI agree."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import dinorl

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
MADE = (ROOT / "docs" / "reference", ROOT / "conf" / "local")  # by `make docs`, and by users
TARGETS = "setup train sweep results test lint type docs ui play bench torture clean".split()


def normal(name: str) -> str:
    """Return a distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of what a clone has; no network is needed."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("conf", "dinorl", "hydra_plugins", "pyproject.toml", "setup.py", "README.md", "LICENSE"):
        subprocess.run(["cp", "-r", str(ROOT / name), str(source)], check=True)
    (source / "conf" / "local").mkdir(exist_ok=True)
    (source / "conf" / "local" / "default.yaml").write_text("seed: 5\n")  # one machine's own settings: never shipped
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", str(built), str(source)], check=True)
    (path,) = built.glob("dinorl-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack the wheel into a folder of its own, as an installer does."""
    folder = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def python(site: Path, folder: Path, *arguments: str) -> str:
    """Run Python in ``folder``, with the unpacked wheel before this checkout; return what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env={"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_wheel_is_complete(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    conf = {f"dinorl/{path.relative_to(ROOT)}" for path in (ROOT / "conf").rglob("*.yaml") if "local" not in path.parts}
    code = {
        path.relative_to(ROOT).as_posix()
        for folder in ("dinorl", "hydra_plugins")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".xml", ".npz", ".json", ".yaml", ".html", ".css"}
    }
    assert conf and {"dinorl/species/trex/trex.xml", "hydra_plugins/dinorl/__init__.py"} <= code
    assert conf | code | {"dinorl/py.typed"} <= names
    assert "hydra_plugins/__init__.py" not in names  # it is a namespace that other distributions share
    assert not {name for name in names if name.startswith(("tests", "conf", "outputs")) or "local" in name}


def test_wheel_works_from_any_folder(installed: Path, tmp_path: Path) -> None:
    script = (
        "import dinorl; from dinorl.config import compose; from dinorl.sim.model import Animal\n"
        "cfg = compose(['species=trex', 'stage=behavior'])\n"
        "print(dinorl.__file__, cfg.stage.name, Animal(cfg.species, cfg.sim).model.nu > 0)"
    )
    where, stage, compiled = python(installed, tmp_path, "-c", script).split()
    assert Path(where).is_relative_to(installed) and (stage, compiled) == ("behavior", "True")
    assert "curriculum" in python(installed, tmp_path, "-m", "dinorl", "--info", "plugins")
    plan = python(installed, tmp_path, "-m", "dinorl", "species=trex", "plan_only=true")
    assert "balance" in plan and "locomotion" in plan
    assert not (tmp_path / "outputs").exists()


def test_version_strings_agree() -> None:
    assert PROJECT["project"]["version"] == dinorl.__version__
    assert f"## [{dinorl.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
    assert f"\nversion: {dinorl.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def locked(name: str) -> dict[str, str]:
    """Return the version of each distribution in a lock file."""
    lines = [line for line in (ROOT / name).read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9.]+", line) for line in lines), "exact, without hashes or +cpu"
    return {normal(name): version for name, version in (line.split("==") for line in lines)}


def wanted(*requirements: str) -> set[str]:
    return {normal(re.split(r"[<>=!~ ;\[]", requirement)[0]) for requirement in requirements}


def test_lock_pins_every_dependency() -> None:
    lock, project = locked("requirements.lock"), PROJECT["project"]
    assert lock["torch"] == "2.13.0"
    assert not [name for name in lock if name.startswith(("nvidia", "cuda", "triton"))]
    extras = {name: extra for name, extra in project["optional-dependencies"].items() if name != "gpu"}
    names = wanted(*project["dependencies"], *(one for extra in extras.values() for one in extra))
    assert names - {"dinorl"} <= set(lock)  # dev takes an extra of its own


def test_gpu_lock_pins_extra() -> None:
    lock = locked("requirements-gpu.lock")
    assert wanted(*PROJECT["project"]["optional-dependencies"]["gpu"]) <= set(lock)
    assert not set(lock) & set(locked("requirements.lock")), "two files would pin one package"


def test_make_setup_gpu_adds_extra() -> None:
    plain, gpu = (make("--dry-run", "setup", "VENV=.venv-that-is-missing", *more) for more in ((), ("GPU=1",)))
    assert "requirements-gpu.lock" not in plain
    assert "-c requirements.lock -c requirements-gpu.lock -e '.[gpu]'" in gpu


def make(*arguments: str) -> str:
    """Run make in the checkout, as a person would, and return what it printed."""
    # no variables of an outer make
    env = {
        key: value
        for key, value in os.environ.items()
        if not re.match("MAKE|MFLAGS|ARGS|SPECIES|ALGO|STAGE|SEED|GPU", key)
    }
    return subprocess.run(
        ["make", "--no-print-directory", *arguments], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    ).stdout


def test_make_help_lists_targets() -> None:
    shown = make()
    assert shown == make("help")
    for target in TARGETS:
        assert re.search(rf"make {target} +  \w", shown), target


@pytest.mark.parametrize("target", [name for name in TARGETS if name not in {"setup", "clean"}])
def test_make_targets_create_venv(target: str) -> None:
    planned = make("--dry-run", target, "VENV=.venv-that-is-missing", "BUNDLE=x")
    assert planned.index("-m venv .venv-that-is-missing") < planned.rindex(".venv-that-is-missing/bin/")


def test_make_forwards_only_given_variables() -> None:
    def command(*arguments: str) -> str:
        return next(line.strip() for line in make("--dry-run", *arguments).splitlines() if "-m dinorl" in line)

    assert command("train").endswith("-m dinorl")
    assert command("train", "SPECIES=trex", "ALGO=sac").endswith("-m dinorl species=trex algo=sac")
    given = ["STAGE=balance", "SEED=0,1", "ARGS=ppo.gamma=0.9 sim.threads=1"]
    assert command("train", *given).endswith("-m dinorl stage=balance seed=0,1 ppo.gamma=0.9 sim.threads=1")
    assert command("sweep", "SPECIES=trex").endswith("-m dinorl species=trex seed=0,1,2")


def test_readme_commands_match_ci() -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```", README, flags=re.S | re.M)
    assert blocks[0].strip() == "make train SPECIES=trex ALGO=ppo"
    assert blocks[1].strip() == "make test"
    ci = (ROOT / ".ci" / "run").read_text()
    program = re.search(r"awk '(.*?)' README.md", ci)
    assert program is not None
    found = subprocess.run(
        ["awk", program.group(1), "README.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert found == blocks[1]


def made(path: Path) -> bool:
    """Whether a path is not in a clone."""
    return any(path.is_relative_to(folder) for folder in MADE)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_named_paths_exist(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        path = page.parent / link
        assert path.is_file() or made(path), f"{page.name} shows {link}"
        largest = 1_000_000 if path.suffix == ".gif" else 200_000
        assert made(path) or path.stat().st_size <= largest, f"{link} is larger than {largest:,} bytes"
    for name in re.findall(r"`((?:dinorl|conf|docs|tests)/[\w./-]+)`", page.read_text()):
        assert (ROOT / name).exists() or made(ROOT / name), f"{page.name} speaks of {name}"
