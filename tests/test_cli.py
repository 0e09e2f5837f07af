"""The command line: wrong input gives a clear message before any work; right input runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import dinorl, dinorl_here

BAD = {
    # typed: parts of the message
    "ppo.learning_rat=1": ["ppo.learning_rat: there is no such key", "Type ppo.learning_rate=…"],
    "+ppo.learning_rat=1": ["ppo.learning_rat: there is no such key", "Type ppo.learning_rate=…"],
    "+ppo.learning_rate=1": ["+ppo.learning_rate: this key exists already", "Type ppo.learning_rate=… without the +"],
    "2.ppo.learning_rat=1": ["2.ppo.learning_rat: there is no such key", "Type 2.ppo.learning_rate=…"],
    "ppo.learning_rate=fast": ["expected a number in (0, 1], found fast", "ppo.learning_rate=3e-4"],
    "ppo.batch_size=100": ["48 × 512 = 24576", "Type ppo.batch_size=96"],
    "species=dodo": ["species=dodo: there is no such species", "brachiosaurus, trex, velociraptor"],
    "stage=flying": ["stage=flying: there is no such stage", "balance, behavior, locomotion", "Type stage=balance"],
    "4.ppo.gamma=0.9": ["4.ppo.gamma: there is no stage 4", "1 (balance), 2 (locomotion), 3 (behavior)"],
    "env.bite_bonus=5 species=velociraptor": [
        "env.bite_bonus: means nothing for species=velociraptor",
        "env.strike_bonus",
    ],
    "ppo.gamma=1.5": ["ppo.gamma=1.5: expected a number in (0, 1], found 1.5", "ppo.gamma=0.99"],
    "stage=behavior eval.episodes=32": [
        "curriculum.min_success_lcb=0.95: 32 episodes that all succeed show 0.911",
        "it takes 59. Type eval.episodes=59",
    ],
    "sim.n_envs=0": ["sim.n_envs=0: expected a whole number in [1, 65536], found 0", "sim.n_envs=64"],
    "warm_start=/nowhere": ["/nowhere"],
}


FIRST = next(iter(BAD))  # as people type it; the others run in-process, faster


@pytest.mark.parametrize("typed", BAD)
def test_invalid_command_leaves_no_files(typed: str, tmp_path: Path) -> None:
    run = dinorl if typed == FIRST else dinorl_here
    done = run(tmp_path, *typed.split())
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("dinorl: ") and "Traceback" not in done.stderr
    for words in BAD[typed]:
        assert words in done.stderr
    assert done.stdout == "" and list(tmp_path.iterdir()) == []


def test_stage_config_shows_own_overrides(tmp_path: Path) -> None:
    shown = dinorl(
        tmp_path, "--cfg", "job", "species=velociraptor", "stage=locomotion", "2.ppo.gamma=0.9", "ppo.gamma=0.8",
        "3.ppo.gamma=0.7",
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    assert "gamma: 0.9" in shown.stdout and "name: velociraptor" in shown.stdout
    assert not {"'1':", "balance:", "sweep:"} & {line.strip() for line in shown.stdout.splitlines()}
    assert list(tmp_path.iterdir()) == []


def test_help_lists_config_groups(tmp_path: Path) -> None:
    shown = dinorl(tmp_path, "--help")
    assert shown.returncode == 0 and "species: brachiosaurus, trex, velociraptor" in shown.stdout


def test_plan_only_writes_nothing(tmp_path: Path) -> None:
    done = dinorl(tmp_path, "species=trex,velociraptor", "algo=ppo,sac", "seed=0,1,2", "plan_only=true")
    assert done.returncode == 0 and "12 lineages, 36 stages: 36 to train" in done.stdout
    assert list(tmp_path.iterdir()) == []
