"""Every command and Python block of the README and the documentation works, or is marked and parses."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import dinorl_here
from made_runs import Evaluation, plain_run

from dinorl import commands
from dinorl.config import compose

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
BLOCK = re.compile(
    r"(?:<!-- (?P<mark>long|example): .*? -->\n)?```(?P<language>sh|python)\n(?P<text>.*?)^```", re.S | re.M
)
READERS = {"compare"}  # words that read the runs of docs/tuning.md
# Stand-ins for what an example leaves open.
STAND_INS = {"<name>": "trex"}

# Not run: slow, need a network, or hold the reader's names. Keep short.
MARKED = {
    ".ci/run",
    ".venv/bin/pre-commit install",
    "PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make setup",
    "dinorl bench --species trex --quick",
    "dinorl convert tables --name mine",
    "dinorl diagnose outputs/<sweep>/<name>-ppo-s0/1-balance",
    "dinorl diagnose species=trex stage=bite seed=0",
    "dinorl evaluate outputs/<sweep>/<name>-ppo-s0/1-balance",
    "dinorl promote 'changed stage=locomotion'",
    "dinorl regress species=trex --against baseline",
    "dinorl replay-fault outputs/<sweep>/<lineage>/<n>-<stage>/faults/<file>",
    "dinorl report baseline",
    "dinorl send outputs",
    "make lint type docs",
    "export RAY_AUTH_MODE=token RAY_AUTH_TOKEN=<token>",
    "make results SPECIES=trex ALGO=ppo SEED=0,1,2",
    "make setup",
    "make setup GPU=1",
    "make test",
    'make test ARGS="-k gait"',
    'make torture ARGS="--kills 5"',
    "pip install -c requirements.lock -e .",
    "pytest -p no:xdist --pdb tests/test_tasks.py",
    "pip install -c requirements.lock -e '.[slurm]'",
    "python -m dinorl --config-dir my_conf species=<name>",
    "python -m dinorl recipe=mine species=trex plan_only=true",
    "python -m dinorl species=<name>",
    "python -m dinorl species=trex seed=0,1,2 hydra/launcher=submitit_slurm hydra.launcher.partition=main "
    "hydra.launcher.cpus_per_task=2 hydra.launcher.timeout_min=120 sweep.retries=3",
    "python -m dinorl species=<name> seed=0,1,2",
    "python -m dinorl species=<name> stage=balance experiment=debug",
    "python -m pdb -m dinorl species=trex stage=balance experiment=debug sweep.isolate=false",
    "ray start --address=<address of the head>:6379",
    "ray start --head",
    "sudo apt-get install libegl1 libgl1 libgl1-mesa-dri",
}


def lines(text: str) -> list[str]:
    """Return the commands of a block, without comments and with continued lines joined."""
    joined = text.replace("\\\n", " ")
    found = (re.sub(r"(^|\s+)#.*", "", line).strip() for line in joined.splitlines())
    return [re.sub(r"\s+", " ", line) for line in found if line]


BLOCKS = [(path, found) for path in PAGES for found in BLOCK.finditer(path.read_text())]
SHELL = {line: found["mark"] for _, found in BLOCKS if found["language"] == "sh" for line in lines(found["text"])}
PYTHON = [(path, found["text"]) for path, found in BLOCKS if found["language"] == "python" and not found["mark"]]


def dinorl_arguments(line: str) -> list[str] | None:
    """Return what follows ``dinorl`` in a command, or None if the command is another program's."""
    words = shlex.split(line)
    for start in (["dinorl"], ["python", "-m", "dinorl"]):
        if words[: len(start)] == start:
            return words[len(start) :]
    return None


def makes(line: str) -> list[str]:
    """Return make's arguments; the command may set a variable first."""
    words = shlex.split(line)
    return words[words.index("make") + 1 :] if "make" in words else []


def dry_run(arguments: list[str]) -> None:
    """Check that make knows what to do."""
    env = {key: value for key, value in os.environ.items() if not re.match("MAKE|MFLAGS|ARGS|SPECIES|ALGO|SEED", key)}
    done = subprocess.run(
        ["make", "--dry-run", *arguments, "BUNDLE=x"], cwd=ROOT, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def is_training(arguments: list[str]) -> bool:
    return arguments[0] not in commands.words()


def short(arguments: list[str], folder: Path) -> list[str]:
    """Return a command's arguments, made a matter of a second: fewer episodes, stages and seeds, a plan alone."""
    if {"--cfg", "-sc"} & set(arguments):
        return arguments
    if is_training(arguments):
        fewer = [re.sub("^seed=.*,.*", "seed=0,1", argument) for argument in arguments]
        staged = any(re.match(r"stage=|[1-3]\.", argument) for argument in arguments)
        return [*fewer, "plan_only=true", *([] if staged else ["stage=balance"])]
    extra = {"evaluate": ["--episodes", "2"], "play": ["--seconds", "0.1", "--video", str(folder / "film.gif")]}
    return [*arguments, *extra.get(arguments[0], [])]


def parses(arguments: list[str], folder: Path) -> None:
    """Check that a command's overrides compose, or that its word and options exist."""
    if is_training(arguments):
        (folder / "my_conf").mkdir()
        done = dinorl_here(folder, *short(arguments, folder))
        assert done.returncode == 0, done.stdout + done.stderr
    else:
        commands.parser(arguments[0]).read(arguments[1:])


@pytest.fixture(scope="module")
def tuned(made_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs that the first commands of docs/tuning.md would train."""
    folder = tmp_path_factory.mktemp("tuned")
    (folder / "outputs").mkdir()
    shutil.copy(made_store, folder / "outputs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for sweep, rate in (("baseline", "0.001"), ("changed", "0.0005")):
            for stage in ("balance", "locomotion", "behavior"):
                for seed in range(3):
                    last = Evaluation(1.0, 1, fall_rate=0.0, forward_speed_mean_mps=4.0 + seed, success_rate=1.0)
                    plain_run([last], stage=stage, seed=seed, sweep=sweep, params={"ppo.learning_rate": rate})
    return folder


@pytest.mark.parametrize("line", [line for line in SHELL if line not in MARKED])
def test_command_runs(line: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    inner = re.fullmatch(r'eval "\$\((.*)\)"', line)
    arguments = dinorl_arguments(inner.group(1) if inner else line)
    if arguments is None:
        assert makes(line), f"{line}: neither dinorl nor make"
        dry_run(makes(line))
        return
    folder = request.getfixturevalue("tuned") if arguments[0] in READERS else tmp_path
    done = dinorl_here(folder, *short(arguments, folder))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("line", sorted(MARKED))
def test_marked_command_parses(line: str, tmp_path: Path) -> None:
    for placeholder, value in STAND_INS.items():
        line = line.replace(placeholder, value)
    arguments = dinorl_arguments(line.replace("python -m pdb", "python").replace("recipe=mine", "recipe=toml"))
    if arguments is not None:
        parses(arguments, tmp_path)
    elif makes(line):
        dry_run(makes(line))


def test_marked_commands_are_listed() -> None:
    assert MARKED <= set(SHELL), "delete lines that are in no page any more"
    assert {line for line, mark in SHELL.items() if mark} <= MARKED, "a marked block has a command that is not listed"


@pytest.mark.parametrize(("page", "text"), PYTHON, ids=lambda value: value.name if isinstance(value, Path) else "block")
def test_python_block_runs(page: Path, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(text, str(page), "exec"), {})


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """The generated reference pages."""
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import _generate

        return {name: page() for name, page in _generate.PAGES.items()}
    finally:
        sys.path.remove(str(ROOT / "docs"))


@pytest.mark.parametrize("species", ["velociraptor", "trex", "brachiosaurus"])
def test_reference_has_every_key(species: str, pages: dict[str, str]) -> None:
    from dinorl.config.strict import flatten

    fixed = ("species.", "stage.", "algo.")  # the groups' own files
    for key in flatten(compose([f"species={species}"])):
        row = re.search(rf"^\| `{re.escape(key)}` \| `[^`]+` \| (.+?) \|", pages["config_keys"], re.MULTILINE)
        assert key.startswith(fixed) or row, f"{key}: no row with a default and a type"


def test_reference_has_search_keys(pages: dict[str, str]) -> None:
    from dinorl.config.tree import search_values

    for key in search_values():
        row = rf"^\| `search\.{key}` \| `[^`]+` \| .+? \| .*? \| .+ \|$"
        assert re.search(row, pages["config_keys"], re.MULTILINE), f"{key}: no row with a default, a type and a meaning"


def test_reference_has_every_word(pages: dict[str, str]) -> None:
    for word in commands.words():
        assert f"## {word}\n" in pages["commands"]


def test_reference_names_writers(pages: dict[str, str]) -> None:
    writers = re.findall(r"\| `(dinorl/[^`]+)` \|", pages["run_folder"])
    assert writers
    for writer in writers:
        assert (ROOT / writer).is_file(), f"{writer} writes no file of a run folder: it does not exist"


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 1200
