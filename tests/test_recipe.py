"""Recipe files: which one a value belongs to, and that editing one leaves the rest as it was."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from dinorl.config import ConfigError, conf_dir
from dinorl.verdicts.recipe import Recipe
from dinorl.verdicts.recipe_text import edited, read, text_of

WHY = "was 1; fall_rate -2.0% [-3.0%, -1.0%], 3 seeds; run 0a1b2c3d, 2026-11-30"
FILES = sorted((conf_dir() / "recipe" / "default" / "trex").rglob("*.yaml"))
TEXT = """\
# @package _global_
# T. rex, bite.
defaults:
  - /recipe/default/behavior
  - _self_
env:
  fall_penalty: -30.0
  # above the duty
  gait_clock_duty: 0.6           # it walks to the prey
  name: 'single'
  other: "double"
  prey_distance_range: [2.0, 6.0]

# about the curriculum
curriculum:
  timesteps: 3_500_000           # steps
  warmup_clip_range: null
  # below the last
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "behavior.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return path


def changed(before: str, after: str) -> list[str]:
    """Return the changed lines of a diff."""
    return [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"]


def change(path: Path, key: str, value: object, comment: str = WHY) -> list[str]:
    return changed(path.read_text(encoding="utf-8"), edited(path, {key: value}, {key: comment}))


@pytest.mark.parametrize("path", FILES, ids=lambda path: "-".join(path.relative_to(conf_dir() / "recipe").parts))
def test_only_edited_lines_change(path: Path) -> None:
    before = path.read_text(encoding="utf-8")
    for node, values in read(path).items():
        for key, old in values.items() if node != "defaults" else ():
            dotted = f"{node}.{key}.new" if isinstance(old, dict) else f"{node}.{key}"
            after = edited(path, {dotted: 0.25}, {dotted: WHY})
            diff = changed(before, after)
            assert len([line for line in diff if line[0] == "-"]) == (not isinstance(old, dict))
            assert all("# " in line for line in diff if line[0] == "+")
            assert OmegaConf.select(OmegaConf.create(after), dotted) == 0.25
            promoted = re.compile(rf" {key}: .*; run [0-9a-f]{{8}}, [0-9-]+")  # replaced by the new reason
            lines = [line for line in before.splitlines() if not promoted.match(line.replace("  ", " "))]
            assert all(comment in after for comment in re.findall(r"# (.*)", "\n".join(lines)))


@pytest.mark.parametrize("key, value, line", [
    ("env.fall_penalty", -5.0, f"  fall_penalty: -5.0             # {WHY}"),
    ("env.prey_distance_range", [1.0, 2.5], f"  prey_distance_range: [1.0, 2.5]  # {WHY}"),
    ("env.heading_weight", 1e-4, f"  heading_weight: 1.0e-4         # {WHY}"),
    ("curriculum.timesteps", 20, f"  timesteps: 20                  # {WHY}"),
    ("curriculum.warmup_clip_range", 0.02, f"  warmup_clip_range: 0.02        # {WHY}"),
    ("curriculum.hand_over", "nothing", f"  hand_over: nothing             # {WHY}"),
    ("ppo.target_kl", None, f"  target_kl: null                # {WHY}"),
    ("ppo.policy_kwargs.net_arch", [64, 64], f"    net_arch: [64, 64]           # {WHY}"),
])  # fmt: skip
def test_value_has_trailing_comment(file: Path, key: str, value: object, line: str) -> None:
    assert f"+ {line}" in change(file, key, value)


def test_old_comment_moves_above(file: Path) -> None:
    assert change(file, "env.gait_clock_duty", 0.7) == [
        "-   gait_clock_duty: 0.6           # it walks to the prey",
        "+   # 0.6: it walks to the prey",
        f"+   gait_clock_duty: 0.7           # {WHY}",
    ]


def test_earlier_promotion_is_replaced(file: Path) -> None:
    file.write_text(edited(file, {"env.fall_penalty": -5.0}, {"env.fall_penalty": WHY}), encoding="utf-8")
    again = WHY.replace("was 1", "was -5.0")
    assert [line[:25] for line in change(file, "env.fall_penalty", -8.0, again)] == [
        "-   fall_penalty: -5.0   ", "+   fall_penalty: -8.0   ",
    ]  # fmt: skip


def test_new_key_ends_its_node(file: Path) -> None:
    after = edited(file, {"env.heading_weight": 1.0, "curriculum.hand_over": "all"}, dict.fromkeys(
        ("env.heading_weight", "curriculum.hand_over"), WHY
    ))  # fmt: skip
    lines = after.splitlines()
    at = lines.index(f"  heading_weight: 1.0            # {WHY}")
    assert lines[at - 1 : at + 3] == [
        "  prey_distance_range: [2.0, 6.0]", lines[at], "", "# about the curriculum",
    ]  # fmt: skip
    assert lines[-2:] == [f"  hand_over: all                 # {WHY}", "  # below the last"]


def test_new_file_is_global(tmp_path: Path) -> None:
    text = edited(tmp_path / "ppo.yaml", {"ppo.gamma": 0.98}, {"ppo.gamma": "why"})
    assert text == "# @package _global_\nppo:\n  gamma: 0.98                    # why\n"


@pytest.mark.parametrize("layout", ["env:\n    a: 1\n    b: [1, 2]\n", "env:\n  a: 1\nlist:\n- 1\n", "# nothing\n"])
def test_other_layouts_survive(layout: str, tmp_path: Path) -> None:
    path = tmp_path / "balance.yaml"
    path.write_text(layout, encoding="utf-8")
    assert edited(path, {"env.c": 2}, {"env.c": "why"}).replace("\n    c", "\n  c").count("# why") == 1
    assert all(line in edited(path, {"env.c": 2}, {"env.c": "why"}) for line in layout.splitlines())


def test_lost_layout_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "balance.yaml"
    path.write_text("env:\n  a:   1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="its layout would not survive. Write the values by hand"):
        edited(path, {"env.a": 2}, {"env.a": "why"})


@pytest.mark.parametrize("value, text", [
    (0.0003, "3.0e-4"), (1.25e-05, "1.25e-5"), (0.005, "0.005"), (-160.0, "-160.0"), (True, "true"), (None, "null"),
    ([2.0, 1e-4], "[2.0, 1.0e-4]"), ("auto_0.001", "auto_0.001"), (3, "3"),
])  # fmt: skip
def test_numbers_are_written_as_ours(value: object, text: str) -> None:
    assert text_of(value) == text
    assert OmegaConf.create(f"x: {text}").x == value


@pytest.mark.parametrize("stage, algo, key, file", [
    ("locomotion", "ppo", "env.heading_weight", "trex/locomotion.yaml"),  # the animal's stage holds it
    ("locomotion", "ppo", "curriculum.timesteps", "trex/locomotion/ppo.yaml"),  # the algorithm's file holds it
    ("locomotion", "sac", "env.heading_weight", "trex/locomotion.yaml"),
    ("locomotion", "sac", "env.nosedive_weight", "trex/locomotion/sac.yaml"),
    ("locomotion", "ppo", "env.nosedive_weight", "trex/locomotion.yaml"),  # all animals' stage holds it
    ("locomotion", "sac", "curriculum.hand_over", "trex/locomotion/sac.yaml"),  # all animals' algorithm holds it
    ("balance", "sac", "curriculum.timesteps", "trex/balance/sac.yaml"),  # the same; there is no such file yet
    ("balance", "ppo", "ppo.gamma", "trex/balance/ppo.yaml"),  # nobody holds it
    ("balance", "ppo", "env.rearing_weight", "trex/balance.yaml"),
])  # fmt: skip
def test_value_belongs_to_file(stage: str, algo: str, key: str, file: str) -> None:
    assert Recipe("default", "trex", stage, algo).file_of(key) == conf_dir() / "recipe" / "default" / file


def test_recipe_without_algorithm_files() -> None:
    recipe = Recipe("toml", "trex", "balance", "ppo")
    assert recipe.file_of("ppo.gamma") == conf_dir() / "recipe" / "toml" / "trex" / "balance.yaml"


def test_reach_of_stage_file_known() -> None:
    recipe = Recipe("default", "trex", "locomotion", "ppo")
    assert recipe.others("env.heading_weight", recipe.file_of("env.heading_weight")) == ["sac"]
    assert recipe.others("env.speed_penalty_weight", recipe.file_of("env.speed_penalty_weight")) == []
    assert recipe.others("ppo.gamma", recipe.file_of("ppo.gamma")) == []


def test_later_overlay_is_named(tmp_path: Path) -> None:
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "default.yaml").write_text("# @package _global_\nppo:\n  gamma: 0.9\n", encoding="utf-8")
    if (conf_dir() / "local" / "default.yaml").exists():
        pytest.skip("this machine has its own overlay, which hides the test's")
    with pytest.raises(ConfigError, match=r"ppo.gamma: .*local/default.yaml, which is read after the recipe of trex"):
        Recipe("default", "trex", "balance", "ppo", (tmp_path,)).file_of("ppo.gamma")
