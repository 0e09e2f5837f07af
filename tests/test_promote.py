"""``dinorl promote``: what it writes, what it refuses, and that a refusal writes nothing."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from commands import word
from made_runs import made_run

from dinorl.config import conf_dir, flatten
from dinorl.tracking.store import client, default_uri
from dinorl.verdicts import winner
from dinorl.verdicts.recipe import Recipe

BITE = ("species=trex", "stage=behavior")
GOOD, MIDDLE, BAD = (0.97, 0.98, 0.99), (0.6, 0.9, 0.75), (0.50, 0.51, 0.52)


@pytest.fixture
def here(has_store: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own recipe, in ``my_conf``, and an empty store."""
    recipe = tmp_path / "my_conf" / "recipe"
    shutil.copytree(conf_dir() / "recipe" / "default" / "trex", recipe / "mine" / "trex")
    shutil.copy(conf_dir() / "recipe" / "default.yaml", recipe / "mine.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.input", lambda _: pytest.fail("nobody is there to answer"))
    return recipe / "mine" / "trex"


def promote(run: str, *options: str) -> int:
    return word("promote", run, "--config-dir", "my_conf", "--recipe", "mine", *options)


def group(*overrides: str, scores: tuple[float, ...], **tags: object) -> list[str]:
    """Make a run of each score, with seeds from 0."""
    return [made_run(*BITE, *overrides, scores=(0.1, s), seed=i, **tags) for i, s in enumerate(scores)]  # type: ignore[arg-type]


def texts(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in folder.rglob("*.yaml")}


def test_clear_winner_is_written(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    group(scores=BAD)
    runs = group("ppo.n_steps=16", "env.forward_vel_max=5", scores=GOOD, sweep="tried")
    before = texts(here)
    assert promote(runs[1]) == 0, "shows the diff alone"
    shown = capsys.readouterr().out
    assert texts(here) == before
    assert "+  n_steps: 16 " in shown and "nothing was written; type --yes to write it" in shown
    assert "success: the run 98.0%" in shown and "the recipe 51.0%" in shown
    assert "note: env.forward_vel_max: behavior.yaml of trex is read with algo=sac too, which no run shows" in shown

    assert promote(runs[1], "--yes") == 0
    changed = {name for name, text in texts(here).items() if before[name] != text}
    assert changed == {"behavior.yaml", "behavior/ppo.yaml"}
    why = r"was {}; success_rate \+47\.0% \[4\d\.\d%, 4\d\.\d%\], 3 seeds; run {}, \d{{4}}-\d\d-\d\d\n"
    assert re.search(r"  forward_vel_max: 5\.0 +# " + why.format(r"4\.0", runs[1][:8]), texts(here)["behavior.yaml"])
    assert re.search(r"  n_steps: 16 +# " + why.format(24, runs[1][:8]), texts(here)["behavior/ppo.yaml"])
    composed = flatten(Recipe("mine", "trex", "behavior", "ppo", (here.parents[2],)).compose())
    assert composed["ppo.n_steps"] == 16 and composed["env.forward_vel_max"] == 5.0


@pytest.mark.parametrize("ours, recipes, said", [
    (GOOD, (), "No verdict: no finished run has the recipe's values"),
    (GOOD[:1], BAD, "a verdict takes 3 seeds a group"),
    (MIDDLE, (0.7, 0.8, 0.65), "their intervals overlap"),
    (BAD, GOOD, "the recipe is better than the run"),
])  # fmt: skip
def test_unclear_verdict_writes_nothing(
    ours: tuple[float, ...], recipes: tuple[float, ...], said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    group(scores=recipes)
    run = group("ppo.gamma=0.98", scores=ours, sweep="tried")[0]
    before = texts(here)
    assert promote(run, "--yes") == 1
    out, err = capsys.readouterr()
    assert said in err and "type --force" in err and "+  gamma: 0.98" in out
    assert texts(here) == before


def test_forced_value_says_so(here: Path) -> None:
    assert promote(made_run(*BITE, "ppo.gamma=0.98", seed=4), "--yes", "--force") == 0
    assert re.search(
        r"  gamma: 0\.98 +# was 0\.99; forced: no run of the old value; run", texts(here)["behavior/ppo.yaml"]
    )


def test_missing_seeds_have_commands(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = {"warm_start": str(Path("outputs/tried/trex-ppo-s0/2-locomotion").absolute())}
    group(scores=BAD[:2])
    run = group("ppo.gamma=0.98", scores=GOOD[:1], sweep="tried", params=start)[0]
    promote(run)
    place = f"dinorl --config-dir {here.parents[2]} recipe=mine species=trex algo=ppo"
    assert capsys.readouterr().err.count(f"{place} 3.ppo.gamma=0.99,0.98 seed=2,3\n") == 1


def test_keys_choose_among_values(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    group("ppo.n_steps=16", scores=BAD)
    group(scores=BAD)
    run = group("ppo.n_steps=16", "ppo.gamma=0.98", scores=GOOD, sweep="tried")[0]
    assert promote(run, "--keys", "ppo.gamma", "--yes") == 0
    text = texts(here)["behavior/ppo.yaml"]
    assert "gamma: 0.98" in text and "n_steps" not in text
    assert "not promoted, but the run had ppo.n_steps=16 (recipe: 24)" in capsys.readouterr().out
    assert promote(run, "--keys", "ppo.vf_coef") == 1
    assert (
        "the run and the recipe do not differ in ppo.vf_coef; expected some of ppo.n_steps" in capsys.readouterr().err
    )


def test_own_seeds_count_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    group(scores=BAD)
    runs = [made_run(*BITE, "ppo.gamma=0.98", scores=(s,), seed=0, sweep=f"again{s}") for s in GOOD]
    assert promote(runs[0]) == 1
    assert "the run 97.0%, seeds 0;" in capsys.readouterr().out.replace("99.0%", "97.0%")


@pytest.mark.parametrize("make, said", [
    (lambda: made_run(*BITE, "ppo.gamma=0.98", tags={"status": "FAILED"}), "no finished stage run"),
    (lambda: made_run(*BITE), "recipe mine has its values already"),
    (lambda: made_run(*BITE, params={"env.old_weight": 2.0}),
     "was trained with env.old_weight=2.0, which no longer exists; the nearest is env."),
])  # fmt: skip
def test_unfit_run_is_refused(
    make: Callable[[], str], said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    before = texts(here)
    assert promote(make(), "--yes", "--force") == 1
    assert said in capsys.readouterr().err and texts(here) == before


def test_unfinished_selection_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made_run(*BITE, "ppo.gamma=0.98", tags={"status": "RUNNING"})
    assert promote("status=RUNNING ppo.gamma=0.98") == 1
    assert "is RUNNING; only finished runs are promoted" in capsys.readouterr().err


def test_changed_model_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = SimpleNamespace(open=lambda folder: SimpleNamespace(meta={"mjcf_sha256": "0" * 64}))
    monkeypatch.setattr(winner, "Bundle", opened)
    assert promote(made_run(*BITE, "ppo.gamma=0.98"), "--force", "--yes") == 1
    assert "the model of trex has changed since. Train it again" in capsys.readouterr().err


def test_selection_of_two_recipes_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for gamma in ("0.98", "0.97"):
        made_run(*BITE, f"ppo.gamma={gamma}", sweep="tried")
    assert promote("tried") == 1
    assert "differ in ppo.gamma: 0.97 and 0.98. Select one value: ppo.gamma=0.97" in capsys.readouterr().err
    assert promote("sweep=tried ppo.gamma=0.98", "--force") == 0
    assert "gamma: 0.98" in capsys.readouterr().out


def test_best_trial_of_search_is_meant(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for trial, gamma in enumerate(("0.97", "0.98")):
        made_run(*BITE, f"ppo.gamma={gamma}", sweep="found", lineage=f"trial-{trial}-s0")
    client(default_uri()).create_run("0", tags={"search": "found", "best_trial": "trial-1"})
    assert promote("found", "--force") == 0
    assert "+  gamma: 0.98" in capsys.readouterr().out


def test_schedule_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    member = client(default_uri()).create_run("0", tags={"schedule": "0: ppo.gamma=0.97; 500000: ppo.gamma=0.98"})
    run = made_run(*BITE, "ppo.gamma=0.98", tags={"mlflow.parentRunId": member.info.run_id})
    assert promote(run, "--force", "--yes") == 1
    assert "no recipe repeats the schedule of a population's member: 0: ppo.gamma=0.97" in capsys.readouterr().err


def test_other_stage_of_lineage_is_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    balance = made_run("species=trex", "stage=balance", "ppo.gamma=0.98", sweep="tried", metric="fall_rate")
    start = {"warm_start": str(Path("outputs/tried/trex-ppo-s0/1-balance").absolute())}
    run = made_run("species=trex", "stage=locomotion", "ppo.gamma=0.98", sweep="tried", params=start)
    assert promote(run, "--force") == 0
    said = f"trained with ppo.gamma=0.98 (recipe: 0.99): to promote that too, type dinorl promote {balance}"
    assert said in capsys.readouterr().out
    assert promote("tried") == 1
    assert f"dinorl promote {balance}   (trex-ppo-s0/1-balance)" in capsys.readouterr().err


def test_invalid_recipe_is_restored(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = made_run(*BITE, "ppo.batch_size=5000", "sim.n_envs=5000", "ppo.n_steps=1")
    before = texts(here)
    assert promote(run, "--keys", "ppo.batch_size", "--force", "--yes") == 1
    assert "the recipe would be invalid: ppo.batch_size=5000" in capsys.readouterr().err
    assert texts(here) == before


def test_terminal_is_asked(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run, before = made_run(*BITE, "ppo.gamma=0.98"), texts(here)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for answer, written in (("n", False), ("y", True)):
        monkeypatch.setattr("builtins.input", lambda _, answer=answer: answer)
        assert promote(run, "--force") == 0
        assert (texts(here) != before) is written
    assert "\x1b[32m+  gamma: 0.98" in capsys.readouterr().out


def test_installed_recipe_is_refused(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dinorl.__file__", str(here.parents[2] / "__init__.py"))
    before = texts(here)
    assert promote(made_run(*BITE, "ppo.gamma=0.98"), "--force", "--yes") == 1
    err = capsys.readouterr().err
    assert "belongs to the installed package" in err and "--config-dir my_conf --recipe mine" in err
    assert texts(here) == before
