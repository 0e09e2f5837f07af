"""Any input composes to a plan, or gives one message that names the key, before any work."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

import pytest
from commands import dinorl_here
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dinorl.config import compose
from dinorl.config.explain import SCOPES
from dinorl.config.strict import known_keys
from dinorl.config.tree import defaults
from dinorl.files.run_folder import locked

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
    st.one_of(st.sampled_from(KEYS), mistyped(), WORDS, st.sampled_from([*defaults(), "sweep.name", "sweep.retries"])),
    st.one_of(VALUES.map(lambda value: f"={value}"), st.just("")),
)


def run(folder: Path, typed: list[str]) -> tuple[int, str]:
    """Return the exit status of a command and what it said on stderr."""
    done = dinorl_here(folder, *typed)
    return done.returncode, done.stderr


# Fixed inputs; FUZZ=1 make test ARGS=tests/test_overrides.py tries many new ones, as `make torture` does.
FUZZ = "FUZZ" in os.environ


@settings(
    max_examples=400 if FUZZ else 25, derandomize=not FUZZ, deadline=None, suppress_health_check=[HealthCheck.too_slow]
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
def test_fuzzed_overrides_plan_or_error(typed: list[str]) -> None:
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
def test_valid_overrides_make_plan(typed: str, tmp_path: Path) -> None:
    assert run(tmp_path, ["plan_only=true", *typed.split()]) == (0, "")


def test_planning_leaks_no_config_keys(tmp_path: Path) -> None:
    assert run(tmp_path, ["plan_only=true", "2.ppo.gamma=0.9"]) == (0, "")
    assert compose(["species=trex", "stage=balance"]).stage.name == "balance"
    assert run(tmp_path, ["plan_only=true", "flying=1"])[0] == 2
    assert compose(["species=trex", "stage=balance"]).stage.name == "balance"


REFUSED = {
    "sweep.retries=fast": "sweep.retries=fast: expected a whole number 0 or more",
    "sweep.retries=-1": "sweep.retries=-1: expected a whole number 0 or more",
    "sweep.isolate=maybe": "sweep.isolate=maybe: expected true or false",
    "sweep.retries=null": "sweep.retries=null: expected a whole number 0 or more",
    "+sweep.retrys=3": "sweep.retrys: there is no such key; the nearest is sweep.retries",
    "sweep.name=a,b": "sweep.name=a,b: has one value for the whole command. Type sweep.name=a",
    "sweep.name=a/b": "sweep.name=a/b: expected the name of a folder below outputs/",
    "sweep.name=" + "x" * 300: "expected the name of a folder below outputs/",
    "2.plan_only=true": "2.plan_only: has one value for the whole command. Type plan_only=True",
    "tracking.experiment=a,b": "tracking.experiment: has one value for the whole command. Type tracking.experiment=a",
    "tracking.lineage=mine": "tracking.lineage: is given to each job by the sweeper. Remove it",
    "ppo.n_steps=1000000007": "ppo.n_steps=1000000007: expected a whole number in [1, 65536]",
    "ppo.n_steps=65521 sim.n_envs=65519": "expected a divisor of ppo.n_steps × sim.n_envs",  # primes, and no wait
    "algo=sac eval.keep=0": "eval.keep=0: expected a whole number in [1, 65536]",
    "algo=sac sac.ent_coef=auto sac.ent_coef_end=0.1": "sac.ent_coef_end: means nothing here, SAC tunes",
    "algo=sac sac.ent_coef=auto sac.ent_coef_end=0": "sac.ent_coef_end: means nothing here, SAC tunes",
    "algo=sac sac.ent_coef_end=null": "",
    "algo=sac curriculum.warmup_clip_range=0.1": "curriculum.warmup_clip_range: means nothing here, only ppo uses it",
    "curriculum.warmup_actor_scale=0": "curriculum.warmup_actor_scale: means nothing here, only sac uses it",
    "stage=locomotion env.push_speed=0.3": "env.push_speed: means nothing here, nobody is pushed. Type env.push_interv",
    "stage=locomotion env.push_speed=0.3 env.push_interval=2": "",
    "stage=locomotion env.push_speed=0": "",
    "stage=locomotion curriculum.push_scale=1.0": "",
    "stage=balance sim.device=auto": "",
    "stage=balance sim.device=cpu": "sim.device: means nothing here, only warp has devices. Type sim.backend=warp",
    "stage=balance sim.deterministic=false": "sim.deterministic: means nothing here, the cpu backend always is",
    "stage=locomotion curriculum.push_scale=2": "curriculum.push_scale: means nothing here, nobody is pushed",
    "stage=locomotion curriculum.bearing_scale=1.3": "",
    "stage=balance curriculum.bearing_scale=1.3": "curriculum.bearing_scale: means nothing here, first targets are",
    "stage=locomotion curriculum.bearing_scale_start=0.5 curriculum.bearing_ramp_timesteps=9000": "",
    "stage=locomotion curriculum.bearing_scale_start=0.5 curriculum.bearing_ramp_timesteps=0": "the ramp takes no time",
    "curriculum.episode_scale_start=0.1 curriculum.episode_ramp_timesteps=9000": "",
    "curriculum.episode_ramp_timesteps=9000": "means nothing here, there is no scale to begin with",
    "stage=locomotion warm_start=trex/balance curriculum.hand_over=nothing": "warm_start: means nothing here",
    "curriculum.hand_over=statistics curriculum.handover_log_std=-2": "handover_log_std: means nothing here",
    "3.algo=sac 3.curriculum.hand_over=statistics": "",
    "2.ppo.policy_kwargs.net_arch=[64] stage=balance,locomotion 2.curriculum.hand_over=nothing": "",
    "stage=balance curriculum.ramp_updates=9": "curriculum.ramp_updates: means nothing here, there is no value",
    "stage=balance curriculum.ramp_updates=9 curriculum.ramp_start_value=0.1": "",
    "stage=balance curriculum.warmup_updates=9 curriculum.warmup_timesteps=5": "warmup_timesteps=5 is given too",
    "stage=balance algo=sac curriculum.warmup_updates=9": "curriculum.warmup_updates=9: sac has no rollouts to count",
    "stage=locomotion env.short_swing_penalty_weight=9": "",
    "stage=locomotion env.short_swing_penalty_weight=9 env.gait_clock_frequency=0": "means nothing here, there is no",
}


TYPED = {
    # typed: parts of the message
    "algo=ppoo": ["algo=ppoo: there is no such algo; expected one of ppo, sac", "Type algo=ppo"],
    "sac.tau=0.01": ["sac.tau: means nothing here", "Type algo=sac"],
    "2.recipe=nope": ["2.recipe=nope: there is no such recipe", "Type 2.recipe=default"],
    "2.sac.tau=0.01": ["2.sac.tau: means nothing here", "Type algo=sac"],
    "stage=balance 2.ppo.gamma=0.9": ["2.ppo.gamma: stage locomotion is not run", "stage=balance,locomotion"],
    "2.warm_start=/nowhere": ["2.warm_start: stage locomotion starts from the stage before it"],
    "3.algo=sac": ["algo=sac in stage behavior: it starts from a policy that was trained with ppo"],
    "2.ppo.policy_kwargs.net_arch=[64]": ["ppo.policy_kwargs.net_arch=[64] in stage locomotion"],
    "species.name=allosaurus": ["species.name", "Type species=…"],
    "hydra.mode=RUN": ["hydra.mode", "Remove it"],
    "hydra/launcher=rai": ["hydra/launcher=rai", "Type hydra/launcher=ray"],
    "ppo.learning_rate": ["ppo.learning_rate: not Hydra's grammar", "Type key=value"],
    "recipe=toml jax.n_envs=4": ["jax.n_envs: dinorl has no JAX backend"],
    "sac.ent_coef=auto_x algo=sac": ["sac.ent_coef=auto_x: expected auto"],
    "ppo.gamma=0.9,1.9": ["ppo.gamma=1.9: expected a number in (0, 1]"],
    "env.prey_distance_range=[6,2]": ["env.prey_distance_range=[6, 2]", "the smaller first"],
}


@pytest.mark.parametrize("typed", TYPED)
def test_mistyped_overrides_are_refused(typed: str, tmp_path: Path) -> None:
    status, said = run(tmp_path, typed.split())
    assert status == 2 and said.startswith("dinorl: ") and "Traceback" not in said
    for words in TYPED[typed]:
        assert words in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("typed", REFUSED)
def test_ineffective_or_impossible_overrides_refused(typed: str, tmp_path: Path) -> None:
    status, said = run(tmp_path, ["plan_only=true", *typed.split()])
    assert (status, said != "") == ((2, True) if REFUSED[typed] else (0, False))
    assert said.startswith("dinorl: " if REFUSED[typed] else "") and REFUSED[typed] in said
    assert list(tmp_path.iterdir()) == []


def test_unusable_sweep_folder_refused(tmp_path: Path) -> None:
    folder = tmp_path / "outputs" / "s"
    folder.mkdir(parents=True)
    with locked(folder):  # as another command does
        status, said = run(tmp_path, ["sweep.name=s"])
    assert status == 2 and "sweep.name=s: another command runs in" in said
    (folder / "plan.json").write_text("")
    status, said = run(tmp_path, ["sweep.name=s"])
    assert status == 2 and "plan.json: expected what each run folder is" in said and "Type another sweep.name" in said
    status, said = run(tmp_path, ["sweep.name=s", "resume=false"])
    assert status == 2 and "with resume=false nothing of it may be reused" in said
    assert [path.name for path in folder.iterdir()] == ["plan.json"]


def test_corrupt_store_refused_early(tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "mlflow.db").write_text("no database at all, but text that is long enough to be one" * 20)
    status, said = run(tmp_path, ["sweep.name=s"])
    assert status == 2 and "mlflow.db" in said and "file is not a database" in said
    assert not (tmp_path / "outputs" / "s").exists()
