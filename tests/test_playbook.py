"""The playbook: each symptom shows on a sick run and not on a healthy one, and its remedies are overrides that act."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import SPECIES
from diagnosed import SICK, healthy, names, sick
from hydra.core.override_parser.overrides_parser import OverridesParser

from dinorl.bundle.locate import zoo
from dinorl.config import ALGORITHMS, STAGES, ConfigError, compose, flatten
from dinorl.verdicts.diagnosis import Diagnosis, diagnose
from dinorl.verdicts.history import Evaluation, History
from dinorl.verdicts.measures import MEASURES, NotMeasured
from dinorl.verdicts.playbook import Playbook, load
from dinorl.verdicts.remedies import overrides

REAL = json.loads((Path(__file__).parent / "data" / "sick_runs.json").read_text())


@pytest.fixture(scope="module")
def playbook() -> Playbook:
    return load()


def value(measure: str, run: History) -> float:
    of_run = MEASURES[measure].of_run
    assert of_run is not None
    return of_run(run, run.kept).number


# Symptoms -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SICK)
def test_symptom_shows_when_sick(name: str, playbook: Playbook) -> None:
    """The records are synthetic: a zoo policy's evaluation with the numbers of a sick one in it."""
    assert name in names(playbook, sick(SICK[name]))
    assert name not in names(playbook, healthy(SICK[name].zoo))


@pytest.mark.parametrize("name", SICK)
def test_sick_run_gets_overrides(name: str, playbook: Playbook) -> None:
    [diagnosis] = diagnose([sick(SICK[name])], playbook)
    found = next(one for one in diagnosis.found if one.name == name)
    assert found.evidence and diagnosis.proposals(found)


@pytest.mark.parametrize("name", REAL)
def test_real_run_is_diagnosed(name: str, playbook: Playbook) -> None:
    """Short runs of the simulation that were made to be sick, by the overrides in the file."""
    runs = []
    for run in REAL[name]["runs"]:
        evaluations = [Evaluation(**row) for row in run["evaluations"]]
        kept = evaluations[run["kept"]]
        runs.append(History(name, name, flatten(compose(run["overrides"])), "", evaluations, kept))
    assert names(playbook, *runs) == set(REAL[name]["symptoms"])


def test_seeds_that_differ(playbook: Playbook) -> None:
    """Synthetic: three seeds of a zoo policy with other returns."""
    first = healthy("trex/balance")

    def seeds(*returns: float) -> list[History]:
        kept = [Evaluation(1, 0, {**first.kept.metrics, "return_mean": one}) for one in returns]
        configs = [first.config | {"seed": seed, "tracking.lineage": str(seed)} for seed in range(len(returns))]
        return [replace(first, config=c, evaluations=[k], kept=k) for c, k in zip(configs, kept, strict=True)]

    assert names(playbook, *seeds(1770.0, 900.0, 1700.0)) == {"varies_over_seeds"}
    assert not names(playbook, *seeds(1770.0, 1769.0, 1768.0))
    good, bad = seeds(1770.0, 900.0)
    other = replace(bad, config={**bad.config, "ppo.gamma": 0.9})
    assert not names(playbook, good, other), "another config"


def test_every_symptom_has_case(playbook: Playbook) -> None:
    assert set(playbook) == {*SICK, "varies_over_seeds"}


@pytest.mark.parametrize("name", zoo())
def test_zoo_is_healthy(name: str, playbook: Playbook) -> None:
    assert not names(playbook, healthy(name))


def test_missing_number_is_said(playbook: Playbook) -> None:
    run = sick(SICK["spins"])
    run = replace(run, config={**run.config, "env.spin_penalty_weight": 0.0})
    [diagnosis] = diagnose([run], playbook)
    assert diagnosis.unmeasured["spins"] == "env.spin_penalty_weight is 0, so the evaluation has no reward.spin_penalty"
    assert "spins" not in {found.symptom.title for found in diagnosis.found}


# Measures -------------------------------------------------------------------------------------------------------------


def test_signals_are_weights_undone() -> None:
    run = healthy("trex/balance")
    metrics = {**run.kept.metrics, "length_mean": 500.0, "reward.spin_penalty": -20.0, "reward.energy_penalty": -5.0}
    run = replace(run, kept=Evaluation(1, 0, metrics))
    assert value("yaw_rate", run) == pytest.approx(20.0 / 0.1 / 500.0)  # rad/s
    assert value("power", run) == pytest.approx(5.0 / 0.2 / 500.0)


def test_bonus_against_discounted_staying() -> None:
    run = sick(SICK["bonus_does_not_dominate"])  # gamma 0.99, bonus 200, 3.19 s of 0.02 s steps to the event
    reward = (1500.0 - run.kept.metrics["reward.bite_approach"]) / 1000.0  # of a step
    staying = sum(0.99**t * reward for t in range(1000))
    steps = round(run.kept.metrics["time_to_event_mean_s"] / 0.02)
    assert value("bonus_dominance", run) == pytest.approx(0.99**steps * 200.0 / staying)
    assert value("bonus_dominance", healthy("trex/bite")) == math.inf, "staying earns nothing"
    no_bonus = replace(run, config={**run.config, "env.bite_bonus": 0.0})
    assert value("bonus_dominance", no_bonus) == 0.0


def test_growth_of_straight_line() -> None:
    run = sick(SICK["plateau"])
    line = [Evaluation(i, 0, {"return_mean": 100.0 * i}) for i in range(1, 10)]
    assert value("growth", replace(run, evaluations=line)) == pytest.approx(200.0 / 900.0)
    with pytest.raises(NotMeasured, match="takes 6"):
        value("growth", replace(run, evaluations=line[:5]))


def test_textbook_rate_scales_with_minibatch() -> None:
    run = healthy("trex/balance")
    config = {**run.config, "ppo.learning_rate": 3e-4, "ppo.batch_size": 64}
    assert value("learning_rate_ratio", replace(run, config=config)) == pytest.approx(1.0)
    assert value("learning_rate_ratio", replace(run, config={**config, "ppo.batch_size": 256})) == pytest.approx(0.5)


# Remedies -------------------------------------------------------------------------------------------------------------


def test_remedies_act_for_every_animal(playbook: Playbook) -> None:
    """Each is checked as a command would be: parsed, composed strictly, and with an effect beside the others."""
    acted = set()
    # where the recipes follow the playbook already
    others = {
        "env.alive_bonus": 3.0, "sac.ent_coef": 0.2,
        "ppo.ent_coef": 0.002, "ppo.clip_range": 0.5, "sac.train_freq": 4, "sac.actor_tau": None,
        "curriculum.hand_over": "all", "curriculum.bearing_scale": 1.0, "env.first_target_bearing_range": [-1.0, 1.0],
    }  # fmt: skip
    for species in SPECIES:
        for stage in STAGES:
            for algo in ALGORITHMS:
                config = flatten(compose([f"species={species}", f"stage={stage}", f"algo={algo}"])) | others
                config["env.forward_vel_weight"] = config["env.forward_vel_weight"] or 1.0
                only = Evaluation(1, 0, {})
                run = History("", "", config, "", [only], only)
                for name, symptom in playbook.items():
                    if stage not in symptom.stages or symptom.algo not in (None, algo):
                        continue
                    changes = [overrides(remedy, run) for remedy in symptom.remedies]
                    OverridesParser.create().parse_overrides([str(one) for made in changes for one in made])
                    assert any(changes) or name == "minibatches_do_not_divide", (name, species, stage, algo)
                    acted |= {(name, i) for i, made in enumerate(changes) if made}
    every = {(name, i) for name, symptom in playbook.items() for i in range(len(symptom.remedies))}
    assert every - acted <= {("minibatches_do_not_divide", 0)}  # see test_sick_run_gets_overrides


def test_remedy_names_event_of_species(playbook: Playbook) -> None:
    def typed(animal: str) -> list[str]:
        run = replace(sick(SICK["lingers"]), config=healthy(animal).config)
        return [str(one) for remedy in playbook["lingers"].remedies for one in overrides(remedy, run)]

    assert "env.bite_bonus=1000.0" in typed("trex/bite")
    assert "env.strike_bonus=1000.0" in typed("velociraptor/strike")
    assert "env.food_head_proximity_weight=0.0" in typed("brachiosaurus/food_reach")


def test_remedy_changes_own_value(playbook: Playbook) -> None:
    def typed(**config: float) -> list[str]:
        run = sick(SICK["spins"])
        run = replace(run, config={**run.config, **{f"env.{key}": number for key, number in config.items()}})
        [diagnosis] = diagnose([run], playbook)
        return [str(one) for found in diagnosis.found for p in diagnosis.proposals(found) for one in p.overrides]

    assert typed() == ["env.spin_penalty_weight=0.3", "env.heading_weight=0.1"], "3 × 0.1; at least 0.1"
    assert typed(heading_weight=0.4) == ["env.spin_penalty_weight=0.3", "env.heading_weight=0.8"]


# A playbook with faults -----------------------------------------------------------------------------------------------

GOOD = """
limps:
  title: limps
  stages: [locomotion]
  cause: a short leg
  when: [{measure: gait.alternation, below: 0.5}]
  remedies: [{change: {env.gait_symmetry_weight: {times: 2.0, at_least: 1.0}}}]
"""


@pytest.mark.parametrize(
    ("typed", "instead", "message"),
    [
        ("gait.alternation", "gait.alternatin", "there is no such measure; the nearest is gait.alternation"),
        (
            "below",
            "over",
            "there is no such key; the nearest is mine.yaml: limps.when.above; expected",
        ),
        (", below: 0.5", "", "limps.gait.alternation: expected either above or below"),
        ("below: 0.5", "below: half", "limps.when.below=half: expected a number"),
        ("below: 0.5", "below: 0.5, of: best", "expected one of kept, last, first, highest, lowest, found best"),
        ("env.gait_symmetry_weight", "env.gait_symetry_weight", "the nearest is env.gait_symmetry_weight"),
        ("env.gait_symmetry_weight", '"env.{bonuss}"', "the nearest is env.{bonus}"),
        ("times: 2.0, at_least: 1.0", "factor: 2.0", "expected one of set, times, of, at_least, at_most"),
        ("times: 2.0", "set: 2.0", "set stands alone"),
        ("times: 2.0", "times: [1.0, 2.0]", "only an interval has two"),
        ("[locomotion]", "[running]", "expected one of balance, locomotion, behavior, found running"),
        ("title: limps\n", "\n", "limps.title: missing"),
        ("  cause", "  algo: dqn\n  cause", "expected one of ppo, sac"),
        ("limps:", "- limps:", "expected symptoms by name, found list"),
        ("title: limps", "title: [", "expected a YAML file"),
    ],
)
def test_faulty_playbook_is_refused(typed: str, instead: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(GOOD, encoding="utf-8")
    assert set(load(file)) == {"limps"}
    file.write_text(GOOD.replace(typed, instead, 1), encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        load(file)
    assert message in str(refused.value) and "mine.yaml" in str(refused.value)


def test_own_playbook_is_used(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(GOOD, encoding="utf-8")
    run = healthy("trex/locomotion")
    limping = replace(run, kept=Evaluation(1, 0, {**run.kept.metrics, "gait.alternation": 0.2}))
    [diagnosis] = diagnose([limping], load(file))
    assert isinstance(diagnosis, Diagnosis) and [found.name for found in diagnosis.found] == ["limps"]
