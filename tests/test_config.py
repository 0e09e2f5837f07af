"""The schema: strict types, errors with fields, keys from declarations, algorithms from their registry."""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from pydantic.dataclasses import dataclass

from dinorl.config import ALGORITHMS, Algorithm, Config, ConfigError, build, compose, env_config_type, to_container
from dinorl.config import schema as schema_module
from dinorl.config.algorithms import Gamma
from dinorl.config.check import checked
from dinorl.config.env import _check_static_keys, parameters_of
from dinorl.config.errors import UnknownKey, unknown_key, wrong_value
from dinorl.config.explain import chosen
from dinorl.config.kinds import NODE
from dinorl.config.overrides import read_settings, stage_overrides
from dinorl.config.tree import defaults, options
from dinorl.tasks.parameters import env_parameters


@pytest.fixture(scope="module")
def bite() -> Config:
    return compose(["species=trex", "stage=behavior"])


def rebuilt(cfg: Config, key: str, value: object) -> Config:
    """Return a config rebuilt with one value changed."""
    content = to_container(cfg)
    *path, last = key.split(".")
    node: Any = content
    for name in path:
        node = node[name]
    node[last] = value
    return build(OmegaConf.create(content))


@pytest.mark.parametrize("key, value, expected", [
    ("ppo.n_epochs", 3.0, 3),
    ("ppo.gamma", 1, 1.0),
    ("ppo.target_kl", None, None),
    ("sac.ent_coef", 0, 0),
    ("sac.ent_coef", "auto_0.5", "auto_0.5"),
    ("env.prey_distance_range", [2, 6], [2.0, 6.0]),
    ("env.forward_vel_max", 4, 4.0),
])  # fmt: skip
def test_numbers_become_declared_type(key: str, value: object, expected: object, bite: Config) -> None:
    node, _, name = key.partition(".")
    found = getattr(getattr(rebuilt(bite, key, value), node), name)
    assert repr(found) == repr(expected)


@pytest.mark.parametrize("key, value, expected", [
    ("ppo.n_epochs", "three", "a whole number in [1, 65536]"),
    ("ppo.n_epochs", 2.5, "a whole number in [1, 65536]"),
    ("ppo.n_epochs", True, "a whole number in [1, 65536]"),
    ("ppo.gamma", True, "a number in (0, 1]"),
    ("ppo.gamma", "high", "a number in (0, 1]"),
    ("ppo.gamma", None, "a number in (0, 1]"),
    ("ppo.vf_coef", math.inf, "a number 0 or more"),
    ("curriculum.min_avg_reward", math.nan, "a number"),
    ("curriculum.on_budget", "halt", "one of advance, stop"),
    ("ppo.lr_schedule", "lineal", "one of linear, cosine"),
    ("ppo.policy_kwargs.mirror", 1, "true or false"),
    ("ppo.policy_kwargs.net_arch", [], "1 to 16 layers of 1 to 4096 units each"),
    ("ppo.policy_kwargs.net_arch", ["a"], "a whole number"),
    ("ppo.policy_kwargs", 3, "a node with keys such as ppo.policy_kwargs.net_arch"),
    ("sac.ent_coef", "auto_-1", "auto, auto_<first value> or a number 0 or more"),
    ("sac.target_entropy", math.inf, "auto or a number"),
    ("env.fall_penalty", 1.0, "a number 0 or less"),
    ("env.prey_distance_range", [6.0, 2.0], "two numbers, the smaller first"),
    ("env.max_episode_steps", 0, "a whole number in [1, 1048576]"),
    ("warm_start", 3, "a word"),
    ("species.feet", "left", "a list of words"),
])  # fmt: skip
def test_wrong_values_are_refused(key: str, value: object, expected: str, bite: Config) -> None:
    with pytest.raises(ConfigError) as caught:
        rebuilt(bite, key, value)
    assert (caught.value.key, caught.value.expected) == (key, expected)


def test_hint_names_nearest_choice(bite: Config) -> None:
    with pytest.raises(ConfigError, match=r"Type e\.g\. ppo\.lr_schedule=cosine"):
        rebuilt(bite, "ppo.lr_schedule", "cosin")


def test_every_key_is_required(bite: Config) -> None:
    for key in ("ppo", "ppo.gamma", "env.alive_bonus", "env.bite_bonus", "seed"):
        content: Any = to_container(bite)
        node, _, name = key.partition(".")
        del (content[node] if name else content)[name or node]
        with pytest.raises(ConfigError, match=rf"{key}: missing from the composed config"):
            build(OmegaConf.create(content))


def test_unknown_key_names_nearest(bite: Config) -> None:
    with pytest.raises(UnknownKey, match=r"env\.n_envs: there is no such key; the nearest is sim\.n_envs"):
        rebuilt(bite, "env.n_envs", 3)


def test_event_roles_are_checked(bite: Config) -> None:
    with pytest.raises(ConfigError, match=r"species\.event\.keys"):
        rebuilt(bite, "species.event.keys.colour", "bite_colour")


def test_replaced_config_stays_whole(bite: Config) -> None:
    smaller = replace(bite, sim=replace(bite.sim, n_envs=1), env=replace(bite.env, push_speed=0.5))
    assert (smaller.sim.n_envs, smaller.env.push_speed) == (1, 0.5)
    assert asdict(replace(smaller, sim=bite.sim, env=bite.env)) == asdict(bite)


def test_error_fields_build_message() -> None:
    error = wrong_value("ppo.gamma", 1.5, "a number in (0, 1]", 0.99)
    assert (error.key, error.found, error.expected) == ("ppo.gamma", "1.5", "a number in (0, 1]")
    assert str(error) == "ppo.gamma=1.5: expected a number in (0, 1], found 1.5. Type e.g. ppo.gamma=0.99"
    assert str(ConfigError("model.xml: does not compile")) == "model.xml: does not compile"


def test_stage_prefix_reaches_hint() -> None:
    error = unknown_key("ppo.gama", ["ppo.gamma"]).in_stage("2.")
    assert isinstance(error, UnknownKey) and error.key == "2.ppo.gama"
    assert "Type 2.ppo.gamma=…" in str(error)
    assert "Type e.g. 2.ppo.gamma=0.99" in str(wrong_value("ppo.gamma", 2, "a number", 0.99).in_stage("2."))


@pytest.mark.parametrize("error", [
    ConfigError("model.xml: does not compile"),
    wrong_value("ppo.gamma", None, "a number", 0.99),
    unknown_key("ppo.gama", ["ppo.gamma"]),
])  # fmt: skip
def test_errors_survive_pickling(error: ConfigError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error) and str(copy) == str(error) and vars(copy) == vars(error)


def test_env_has_declared_keys(bite: Config) -> None:
    declared = parameters_of(bite.species.event.keys)
    assert set(asdict(bite.env)) == set(declared) == set(asdict(bite)["env"])
    assert type(bite.env) is env_config_type(bite.species)


def test_undeclared_static_key_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fewer = [parameter for parameter in env_parameters() if parameter.name != "push_speed"]
    monkeypatch.setattr("dinorl.config.env.env_parameters", lambda: fewer)
    with pytest.raises(TypeError, match=r"EnvConfig\.push_speed"):
        _check_static_keys()


def test_every_algorithm_has_conf() -> None:
    assert options("algo") == sorted(ALGORITHMS)
    for name in ALGORITHMS:
        cfg = compose([f"algo={name}"])
        assert type(cfg.algorithm) is ALGORITHMS[name]


@pytest.fixture
def third_algorithm(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Register an algorithm as a contributor would."""

    @dataclass(config=NODE)
    class Third(Algorithm):
        gamma: Gamma

    monkeypatch.setitem(ALGORITHMS, "third", Third)
    schema_module.config_type.cache_clear()
    yield "third"
    schema_module.config_type.cache_clear()


def test_chosen_algorithm_brings_node(third_algorithm: str, bite: Config) -> None:
    content = to_container(bite) | {third_algorithm: {"gamma": 0.9}}
    made = checked(schema_module.config_type(third_algorithm), content)
    assert asdict(made)[third_algorithm] == {"gamma": 0.9}
    assert third_algorithm not in asdict(checked(schema_module.config_type("ppo"), to_container(bite)))
    content[third_algorithm] = {"gamma": 1.9}
    with pytest.raises(ConfigError, match=r"third\.gamma=1\.9: expected a number in \(0, 1\]"):
        checked(schema_module.config_type(third_algorithm), content)


def test_options_follow_their_algorithm(third_algorithm: str, bite: Config) -> None:
    """A sweep over algorithms may set options of each, an experiment too."""
    typed = OverridesParser.create().parse_overrides(["algo=ppo,third", "third.gamma=0.9", "seed=1"])
    settings, _ = read_settings(typed)
    made = [stage_overrides(settings, {id(settings[0]): algo}, "balance")[1:] for algo in ("ppo", "third")]
    assert made == [["algo=ppo", "seed=1"], ["algo=third", "third.gamma=0.9", "seed=1"]]
    assert build(OmegaConf.create(to_container(bite) | {third_algorithm: {"gamma": 0.9}})) == bite


def test_key_without_value_is_named() -> None:
    with pytest.raises(UnknownKey, match=r"env\.new: missing from the composed config; it needs a value in conf/"):
        raise unknown_key("env.new", ["env.new", "env.now"])


def test_defaults_come_from_tree() -> None:
    assert set(defaults()) == {"species", "stage", "algo", "recipe", "experiment", "sweep"}
    assert chosen("species", []) == compose([]).species.name
    assert chosen("species", ["species=velociraptor,trex"]) == "velociraptor"


def test_stage_label_names_event(bite: Config) -> None:
    assert bite.stage_label == "bite"
    assert compose(["stage=balance"]).stage_label == "balance"
