"""Selections of runs: their grammar, and that the store finds what they mean."""

from __future__ import annotations

import contextlib
import math
import sqlite3
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from made_runs import STEPS, Evaluation, plain_run

from dinorl.config import ConfigError
from dinorl.files.run_folder import SweepFiles
from dinorl.tracking import runs as runs_module
from dinorl.tracking import store
from dinorl.training.evaluations import Best
from dinorl.verdicts import records
from dinorl.verdicts.records import CONSECUTIVE, DEVIATION, RETURN, Curve, StageRun, kept, read_curves, read_runs
from dinorl.verdicts.selection import EVENT, Selection, same

ONE = [Evaluation(1.0)]


@pytest.fixture
def here(has_store: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def values(text: str) -> dict[str, tuple[str, ...]]:
    found = dict(Selection.parse(text).values)
    assert found.pop("status") == ("DONE",)
    return found


def test_grammar_is_hydras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    SweepFiles(tmp_path / "outputs" / "made").plan.parent.mkdir(parents=True)
    SweepFiles(tmp_path / "outputs" / "made").plan.touch()
    assert values("species=trex seed=0,1") == {"species": ("trex",), "seed": ("0", "1")}
    assert values("ppo.policy_kwargs.net_arch=[64,64]") == {"ppo.policy_kwargs.net_arch": ("[64,64]",)}
    assert values("stage=bite") == {"stage": ("behavior",), EVENT: ("bite",)}
    assert values("stage=balance,locomotion") == {"stage": ("balance", "locomotion")}
    assert values("baseline") == {"sweep": ("baseline",)}
    assert values("one,other stage=balance") == {"sweep": ("one", "other"), "stage": ("balance",)}
    assert values("outputs/made/") == {"sweep": ("made",)}
    assert values("0123456789abcdef0123456789abcdef") == {"run_id": ("0123456789abcdef0123456789abcdef",)}
    assert Selection.parse("status=RUNNING a").values["status"] == ("RUNNING",)
    assert "status" not in Selection.parse("a", status=()).values


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "'': selects nothing in particular. Type e.g. 'species=trex stage=bite', or a sweep's name"),
        ("seed=interval(0,3)", "seed=interval(0,3): expected values that can be counted, found an interval"),
        ("seed=[", "seed=[: expected key=value[,value…], found something else"),
        ("a/b", "a/b: expected a sweep's folder or name, key=value or an MLflow run id"),
        ("one other", "one other: sweep is there twice. Type sweep=A,B for either"),
        ("species='trex", "species='trex: a quote is not closed"),
        ("stage=balance,bite", "stage=balance,bite: select stages and events apart"),
    ],
)
def test_unreadable_selection(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        Selection.parse(text)
    assert str(error.value) == said


def test_values_mean_the_same() -> None:
    assert same("1e-4", "0.0001") and same("null", "None") and same("True", "true") and same("[64,64]", "[64, 64]")
    assert not same("relu", "elu") and not same("1", "True") and not same("ReLU", "relu")


def test_store_finds_what_is_meant(here: Path) -> None:
    first = plain_run(ONE, seed=0, params={"ppo.target_kl": "None", "ppo.gamma": "1.0"})
    second = plain_run(ONE, seed=1, species="velociraptor", sweep="later", params={"ppo.learning_rate": "0.001"})
    running = plain_run(ONE, seed=2, stage="balance", tags={"status": "RUNNING", "git_sha": "abcdef"})

    def found(text: str) -> list[str]:
        return [run.run_id for run in read_runs(Selection.parse(text))]

    assert found("stage=behavior") == [second, first], "the newest comes first"
    assert found("stage=strike") == [second]
    assert found("sweep=made,later seed=0,1") == [second, first]
    assert found("ppo.learning_rate=1e-3") == found("later") == [second]
    assert found("ppo.target_kl=null ppo.gamma=1") == [first]
    assert found("ppo.policy_kwargs.net_arch=[128,128] seed=0") == [first]
    assert found("git_sha=1234567") == [second, first]
    assert found(f"run_id={first},{second} resume=true") == [second, first]
    assert found("status=RUNNING") == [running]


def test_filters_stay_few() -> None:
    """MLflow has no OR: a query for each combination."""
    many = Selection.parse(f"seed={','.join(map(str, range(10)))} algo=ppo,sac gate=passed,stopped sweep=made")
    filters = many.filters()
    assert len(filters) == 20, "the third list of values is left to Python"
    assert all("tags.sweep = 'made'" in one and "tags.stage LIKE '%'" in one for one in filters)


def test_nothing_selected(here: Path) -> None:
    plain_run(ONE, stage="balance")
    uri = store.default_uri()
    expected = {
        "spcies=trex": "runs have no spcies; the nearest is species",
        "ppo.learning_rat=1": "runs have no ppo.learning_rat; the nearest is ppo.learning_rate",
        "other": f"no finished stage run in {uri} fits. dinorl ui shows the runs; status=RUNNING selects unfinished "
        "ones",
        "other status=FAILED": f"no stage run in {uri} fits. dinorl ui shows the runs",
    }
    for text, said in expected.items():
        with pytest.raises(ConfigError) as error:
            read_runs(Selection.parse(text))
        assert str(error.value) == f"{text}: {said}"


def test_store_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        read_runs(Selection.parse("a"))
    path = tmp_path / "outputs" / "mlflow.db"
    assert str(error.value).startswith(f"{path}: there is no MLflow store. Type the command where outputs/ is")
    assert not path.exists(), "reading makes no store"


def test_histories_by_step(here: Path) -> None:
    run_id = plain_run([Evaluation(1.0, fall_rate=0.5), Evaluation(2.0), Evaluation(3.0, fall_rate=0.1)])
    run = read_runs(Selection.parse("made"))[0]
    assert (run.seed, run.stage, run.minutes, run.gate) == (0, "bite", 2.0, "passed")
    curves = read_curves([run], [RETURN, "eval/fall_rate", "eval/unknown"])[run_id]
    assert set(curves) == {RETURN, "eval/fall_rate"}
    assert curves[RETURN].steps.tolist() == [STEPS, 2 * STEPS, 3 * STEPS]
    falls = curves["eval/fall_rate"]
    assert falls.at(2 * STEPS) == falls.at(STEPS) == falls.exactly(STEPS) == 0.5
    assert str(falls.exactly(2 * STEPS)) == str(falls.at(STEPS - 1)) == "nan"


def test_tables_say_what_mlflow_says(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server is asked through MLflow, an SQLite store's tables are read."""
    odd = {"ppo.gamma": "1.0", "note": 'it\'s 100 % "odd"'}
    ids = [plain_run([Evaluation(float(seed)), Evaluation(2.0)], seed=seed, params=odd) for seed in range(3)]
    mlflow = store.client(store.default_uri())
    for step, value in ((STEPS, 7.0), (3 * STEPS, math.nan), (4 * STEPS, math.inf)):
        mlflow.log_metric(ids[0], RETURN, value, timestamp=2_000_000_000_000, step=step)
    mlflow.set_tag(mlflow.create_run("0").info.run_id, "sweep", "made")  # no stage
    mlflow.delete_run(plain_run(ONE, seed=8))
    gone = mlflow.create_experiment("gone")
    plain_run(ONE, seed=9, experiment=gone)
    mlflow.delete_experiment(gone)

    def told(text: str) -> tuple[list[StageRun], str]:
        runs = read_runs(Selection.parse(text))
        curves = read_curves(runs, [RETURN, DEVIATION, "eval/unknown"])
        points = [
            (run_id, key, curve.steps.tolist(), curve.values.tolist())
            for run_id, own in curves.items()
            for key, curve in sorted(own.items())
        ]
        return runs, str(points)

    texts = ("made", "made seed=1,2", "ppo.gamma=1", f"run_id={ids[0]}", "stage=bite git_sha=1234")
    of_tables = [told(text) for text in texts]
    another_version = Mock(side_effect=sqlite3.OperationalError("no such column"))
    monkeypatch.setattr(runs_module, "read_rows", another_version)
    monkeypatch.setattr(records, "read_histories", another_version)
    for (runs, points), text in zip(of_tables, texts, strict=True):
        again, same_points = told(text)
        assert points == same_points
        assert [repr(run) for run in runs] == [repr(run) for run in again], "NaN equals nothing"
    assert [run.run_id for run in of_tables[0][0]] == ids[::-1] and "nan" in of_tables[0][1]


def test_history_of_one_run_is_quick(here: Path) -> None:
    """SQLite searched the metrics of all runs for one run's: 4 ms instead of 0.03 ms among 2,000 runs."""
    run_id = plain_run([Evaluation(float(i)) for i in range(20)])
    with contextlib.closing(sqlite3.connect(store.OUTPUTS / store.DATABASE)) as database, database:
        for i in range(200):
            database.execute(
                "INSERT INTO metrics SELECT key, value, timestamp, ?, step, is_nan FROM metrics WHERE run_uuid = ?",
                (f"copy{i}", run_id),
            )
    read_runs(Selection.parse("made"))
    asked = "SELECT value FROM metrics WHERE run_uuid = 'a' AND key = 'b' ORDER BY timestamp, step, value"
    with contextlib.closing(sqlite3.connect(store.OUTPUTS / store.DATABASE)) as database:
        plan = " ".join(str(row[3]) for row in database.execute(f"EXPLAIN QUERY PLAN {asked}"))
    assert "(run_uuid=? AND key=?)" in plan


def test_kept_evaluation_is_the_best() -> None:
    """The rank is that of training."""
    rows = np.array([(5.0, 1.0, 0.0), (9.0, 3.0, 0.0), (7.0, 0.5, 1.0), (8.0, 1.5, 2.0), (6.0, 0.0, 0.0)])
    for count in range(1, len(rows) + 1):
        best, step = Best(), None
        for i, (mean, deviation, consecutive) in enumerate(rows[:count]):
            if best.update({"return_mean": mean, "return_std": deviation}, consecutive > 0):
                step = STEPS * i
        columns = zip((RETURN, DEVIATION, CONSECUTIVE), rows[:count].T, strict=True)
        assert kept({key: Curve(STEPS * np.arange(count), column) for key, column in columns}) == step
    assert kept({}) is None


def test_unreachable_server() -> None:
    with pytest.raises(ConfigError, match=r"^MLflow at http://127.0.0.1:9 cannot be reached \(.+\). Start it"):
        read_runs(Selection.parse("a"), "http://127.0.0.1:9")
