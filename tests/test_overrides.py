"""Anything may be typed: it composes to a plan, or ends with one message that names the key, and nothing was done."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tempfile
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dinorl.__main__ import main
from dinorl.config import compose
from dinorl.config.explain import GROUPS, SCOPES
from dinorl.config.strict import known_keys

KEYS = sorted(known_keys())
WORDS = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=8)


@st.composite
def mistyped(draw: st.DrawFn) -> str:
    """A known key with one character changed, left out or doubled."""
    key = draw(st.sampled_from(KEYS))
    at = draw(st.integers(0, len(key) - 1))
    return key[:at] + draw(st.sampled_from(["", key[at] * 2, "x", "."])) + key[at + 1 :]


NUMBERS = st.one_of(
    st.integers(-(10**12), 10**12).map(str),
    st.floats(allow_nan=True, allow_infinity=True).map(repr),
    st.sampled_from(["0", "-0.0", "1e-3", "1e400", "nan", "inf", "0x10", "1_000"]),
)
VALUES = st.one_of(
    NUMBERS,
    WORDS,
    st.sampled_from(["null", "true", "", "''", "[]", "{}", "[1,2]", "[2,1]", "{a:1}", "???", "auto", "fast", "[[1]]",
                     "${seed}", "${nothing}", "${oc.env:NOT_THERE}", "'", "[1,", "a b", "é", "1,,2", "a=b", "\\", "$"]),
    st.lists(NUMBERS, min_size=2, max_size=3).map(",".join),
    st.sampled_from(["range(1,3)", "choice(1,2)", "glob(*)", "interval(0,1)", "shuffle(1,2)", "sort(2,1)", "int(1.5)"]),
)  # fmt: skip
OVERRIDES = st.builds(
    lambda sign, scope, key, value: f"{sign}{scope}{key}{value}",
    st.sampled_from(["", "", "", "+", "++", "~"]),
    st.sampled_from(["", "", *(f"{scope}." for scope in SCOPES), "4.", "flying.", "1.2."]),
    st.one_of(st.sampled_from(KEYS), mistyped(), WORDS, st.sampled_from([*GROUPS, "sweep.name", "sweep.retries"])),
    st.one_of(VALUES.map(lambda value: f"={value}"), st.just("")),
)


def run(folder: Path, typed: list[str]) -> tuple[int, str]:
    """Run the command line in this process; return its exit status and what it said on stderr."""
    out, err = io.StringIO(), io.StringIO()
    before, argv = Path.cwd(), sys.argv
    status = 0
    os.chdir(folder)
    sys.argv = ["dinorl", *typed]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as ended:
        status = int(ended.code or 0)
    finally:
        sys.argv = argv
        os.chdir(before)
        GlobalHydra.instance().clear()
    return status, err.getvalue()


# The suite tries the same inputs every time; FUZZ=1 make test ARGS=tests/test_overrides.py looks for new ones.
@settings(
    max_examples=60, derandomize="FUZZ" not in os.environ, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(st.lists(OVERRIDES, min_size=1, max_size=2))
@example(["ppo.learning_rate=1e400"])
@example(["seed=1", "seed=2"])
@example(["~ppo.gamma"])
@example(["~algo.name=0"])
@example(["species=0"])
@example(["locomotion.recipe=0,1"])
@example(["behavior.experiment=glob(*)"])
@example(["env.lateral_penalty_weight=interval(0,1)"])
@example(["+balance.sxecies.mjcf=0,1"])
@example(["behavior.experiment=[2,1]"])
@example(["species=null"])
@example(["~experiment"])
@example(["~species=0"])
@example(["sweep.name=../../elsewhere"])
@example(["+currriculum.max_fall_rate=int(1.5)", "~currriculum.max_fall_rate=int(1.5)"])
def test_whatever_is_typed_is_a_plan_or_a_message(typed: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        status, said = run(Path(folder), ["plan_only=true", *typed])
        assert list(Path(folder).iterdir()) == []
    assert status in (0, 2), said
    if status == 2:
        assert said.startswith("dinorl: ") and len(said) > 20
        names = [re.split(r"[=]", one.lstrip("+~"))[0] for one in typed]
        words = [word for name in names for word in (name, name.split(".", 1)[-1]) if word]
        assert any(word in said for word in words) or any(one in said for one in typed), (typed, said)


@pytest.mark.parametrize("typed", ["species=trex", "species=trex,velociraptor seed=range(0,3) 2.ppo.gamma=0.9,0.95"])
def test_what_is_typed_right_is_a_plan(typed: str, tmp_path: Path) -> None:
    assert run(tmp_path, ["plan_only=true", *typed.split()]) == (0, "")


def test_what_was_planned_leaves_no_keys_behind_for_who_composes_next(tmp_path: Path) -> None:
    assert run(tmp_path, ["plan_only=true", "2.ppo.gamma=0.9"]) == (0, "")
    assert compose(["species=trex", "stage=balance"]).stage.name == "balance"
    assert run(tmp_path, ["plan_only=true", "flying=1"])[0] == 2
    assert compose(["species=trex", "stage=balance"]).stage.name == "balance"
