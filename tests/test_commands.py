"""One door: words, overrides, help, and completion in a real shell."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import dinorl, dinorl_here, word

from dinorl import commands
from dinorl.commands import _complete, _door
from dinorl.commands._door import split

WORDS = commands.words()


def test_every_file_is_word() -> None:
    assert {"evaluate", "play", "replay-fault", "train", "zoo"} < set(WORDS)
    for name in WORDS:
        assert commands.load(name).SUMMARY.endswith(".")


@pytest.mark.parametrize("typed", [
    [], ["species=trex"], ["+ppo.new=1"], ["~experiment"], ["~experiment=debug"], ["-m", "evaluate"], ["--cfg", "job"],
    ["species=trex", "play"], ["2.ppo.gamma=0.9"], ["ppo.gamma"], ["seed"], ["ppo"], ["stage"], ["hydra/launcher"],
    ["'env.prey_distance_range=[1,2]'"], [""],
])  # fmt: skip
def test_overrides_are_no_words(typed: list[str]) -> None:
    assert split(typed) == ("train", typed)


@pytest.mark.parametrize("name", WORDS)
def test_first_argument_is_word(name: str) -> None:
    assert split([name, "x", "play"]) == (name, ["x", "play"])


@pytest.mark.parametrize("typed, said", [
    ("evalute", "dinorl: evalute: there is no such word; the nearest is evaluate. Type dinorl evaluate …"),
    ("replay_fault", "the nearest is replay-fault"),
    ("trex/bite", f"trex/bite: there is no such word; expected {', '.join(WORDS)}"),
    ("xyzzy", f"expected {', '.join(WORDS)}, or what to train, such as species=trex"),
])  # fmt: skip
def test_mistyped_word_shows_nearest(typed: str, said: str, tmp_path: Path) -> None:
    done = dinorl_here(tmp_path, typed, "trex/bite")
    assert done.returncode == 2 and said in done.stderr
    assert done.stdout == "" and list(tmp_path.iterdir()) == []


def test_help_begins_with_words(tmp_path: Path) -> None:
    shown = dinorl_here(tmp_path, "--help")
    assert shown.returncode == 0
    words, hydra = shown.stdout.split("dinorl is powered by Hydra")
    for name in WORDS:
        assert f"dinorl {name:<13} {commands.load(name).SUMMARY}" in words
    assert "species: brachiosaurus, trex, velociraptor" in hydra


@pytest.mark.parametrize("name", [name for name in WORDS if name != "train"])
def test_word_help_shows_arguments(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        word(name, "--help")
    shown = capsys.readouterr().out
    assert ended.value.code == 0 and shown.startswith(f"usage: dinorl {name} ")
    assert " ".join(shown.split()).count(commands.load(name).SUMMARY) == 1


def test_words_import_nothing_heavy() -> None:
    heavy = "{'mlflow', 'mujoco', 'ray', 'rich', 'stable_baselines3', 'torch'}"
    script = f"import sys; from dinorl import commands; commands.overview(); print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_train_may_be_typed(tmp_path: Path) -> None:
    config = dinorl_here(tmp_path, "--cfg", "job", "species=velociraptor").stdout
    assert "name: velociraptor" in config
    assert dinorl_here(tmp_path, "train", "--cfg", "job", "species=velociraptor").stdout == config


@pytest.mark.parametrize("typed, status, said", [
    (["evaluate", "nowhere"], 1, "dinorl evaluate: nowhere: no bundle there: it does not exist"),
    (["play", "nowhere"], 1, "dinorl play: nowhere: no bundle there"),
    (["zoo", "measure", "trex/flies"], 1, "dinorl zoo: trex/flies: no such policy in the zoo; there are brachiosaurus"),
    (["play", "trex/bite", "--video", "film.xyz"], 1, "dinorl play: film.xyz: expected a film that ends in .mp4 or"),
    (["results", "--readme", "nowhere.md"], 1, "mlflow.db: there is no MLflow store. Type the command where outputs"),
    (["replay-fault", "nowhere.npz"], 1, "expected a file of a run's faults/ folder"),
    (["convert", "nowhere"], 2, "dinorl convert: nowhere: found no stage files"),
    (["send", "nowhere"], 2, "dinorl send: nowhere: found no tracking.jsonl"),
    (["bench", "--species", "dodo"], 1, "species=dodo: there is no such species; expected one of brachiosaurus, trex"),
])  # fmt: skip
def test_word_error_one_line(
    typed: list[str], status: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert word(*typed) == status
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1


@pytest.mark.parametrize("typed, said", [
    (["--episodes", "0"], "argument --episodes: expected a whole number of 1 or more, found 0"),
    (["--seed", "-1"], "argument --seed: expected a whole number of 0 or more, found -1"),
])  # fmt: skip
def test_argument_out_of_range(typed: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        word("evaluate", "trex/bite", *typed)
    assert ended.value.code == 2 and said in capsys.readouterr().err


@pytest.mark.parametrize("error, status, said", [
    (KeyboardInterrupt(), 130, "dinorl: interrupted"),
    (OSError(28, "No space left on device", "/x/y"), 1, "dinorl zoo: /x/y: No space left on device"),
    (OSError("no OpenGL here"), 1, "dinorl zoo: no OpenGL here"),
])  # fmt: skip
def test_failure_message_and_status(
    error: BaseException, status: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> int:
        raise error

    monkeypatch.setattr("dinorl.commands.zoo.run", fail)
    monkeypatch.setattr(_door.signal, "signal", lambda *_: None)
    assert word("zoo", "list") == status
    assert capsys.readouterr().err == f"{said}\n"


def test_interrupt_exits_130(tmp_path: Path) -> None:
    script = (
        "import os, signal; from dinorl.__main__ import main; from dinorl.commands import zoo\n"
        "zoo.run = lambda _: os.kill(os.getpid(), signal.{})\nmain()"
    )
    for name in ("SIGINT", "SIGTERM"):
        command = [sys.executable, "-c", script.format(name), "zoo", "list"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (130, "dinorl: interrupted\n")


def shell(folder: Path, *lines: str) -> dict[str, list[str]]:
    """Install completion in a real bash, press Tab after each line, and return what it offers."""
    (folder / "bin").mkdir()
    program = folder / "bin" / "dinorl"
    program.write_text(f"#!{sys.executable}\nfrom dinorl.__main__ import main\nmain()\n")
    program.chmod(0o755)
    script = ['eval "$(dinorl -sc install=bash)"', "complete -p dinorl >&2"]
    for line in lines:
        script += [
            f"COMP_LINE={line!r}; COMP_POINT=${{#COMP_LINE}}; COMP_WORDS=($COMP_LINE)",
            '[[ "$COMP_LINE" == *" " ]] && COMP_WORDS+=("")',
            "COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=(); hydra_bash_completion",
            'echo "${COMPREPLY[@]}"',
        ]
    path = os.pathsep.join([str(folder / "bin"), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)], cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True,
    )  # fmt: skip
    assert "hydra_bash_completion dinorl" in done.stderr, done.stderr
    offered = done.stdout.split("\n")
    return {line: offer.split() for line, offer in zip(lines, offered, strict=False)}


def test_bash_completes_words_overrides(tmp_path: Path) -> None:
    offered = shell(
        tmp_path, "dinorl ", "dinorl ev", "dinorl species=", "dinorl species=trex ppo.learning_rate",
        "dinorl play trex/", "dinorl evaluate trex/bite --", "dinorl zoo ", "dinorl train algo=",
    )  # fmt: skip
    assert {*WORDS, "species=", "env.", "ppo."} <= set(offered["dinorl "])
    assert offered["dinorl ev"] == ["evaluate", "eval."]
    assert offered["dinorl species="] == ["species=brachiosaurus", "species=trex", "species=velociraptor"]
    assert "ppo.learning_rate=" in offered["dinorl species=trex ppo.learning_rate"]
    stages = ("balance", "bite", "locomotion")
    assert offered["dinorl play trex/"] == [f"trex/{stage}{algo}" for stage in stages for algo in ("", "-sac")]
    assert {"--episodes", "--json", "--seed"} <= set(offered["dinorl evaluate trex/bite --"])
    assert {"add", "list", "measure"} <= set(offered["dinorl zoo "])
    assert offered["dinorl train algo="] == ["algo=ppo", "algo=sac"]


@pytest.mark.parametrize("shell_name", ["zsh", "fish"])
def test_other_shells_are_answered(shell_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMP_LINE", "dinorl pla")
    monkeypatch.delenv("COMP_POINT", raising=False)
    offered = dinorl_here(tmp_path, "-sc", f"query={shell_name}").stdout.split()
    assert offered[0] == "play" and "plan_only=" in offered


def test_completion_sees_cursor() -> None:
    assert _complete.read_line("dinorl evaluate trex/bi --json x", "23") == (["evaluate"], "trex/bi")
    assert _complete.read_line("dinorl  zoo ", None) == (["zoo"], "")
    assert _complete.read_line("dinorl", None) == ([], "dinorl")


@pytest.mark.parametrize("typed, current, offered", [
    (["--species"], "t", ["trex"]),
    (["--json"], "", []),
    (["--quick"], "--s", ["--species"]),
])  # fmt: skip
def test_option_values_complete(typed: list[str], current: str, offered: list[str]) -> None:
    assert _complete.candidates(commands.parser("bench"), typed, current) == offered


def test_unknown_word_completes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMP_LINE", "dinorl xyzzy ")
    monkeypatch.delenv("COMP_POINT", raising=False)
    done = dinorl(tmp_path, "-sc", "query=bash")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
