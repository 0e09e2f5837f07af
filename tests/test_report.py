"""The page of a sweep: what MLflow and run folders say, in one file that is safe to open."""

from __future__ import annotations

import base64
import html
import math
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import imageio.v2 as imageio
import numpy as np
import pytest
from commands import word
from made_runs import STEPS, Evaluation, plain_run

from dinorl.config import compose
from dinorl.files.run_folder import RunFolder, SearchFiles, SweepFiles, write_json, write_status
from dinorl.reports import films
from dinorl.reports.films import SMALLER, TOO_LARGE, read_films
from dinorl.reports.groups import ALL, group_names, grouped
from dinorl.reports.page import Page
from dinorl.reports.shares import OTHER, merged, shares
from dinorl.reports.stages import StageRecord, read_stages
from dinorl.tracking import store
from dinorl.tracking.describe import NOTE
from dinorl.tracking.lineage import open_lineages
from dinorl.tracking.spool import PARENT_TAG, Spool
from dinorl.verdicts.records import Curve, StageRun, read_runs
from dinorl.verdicts.selection import Selection

NAME = "<script>alert(1)<script>"  # of a sweep; a folder's name may be so
COMMAND = "dinorl species=trex 'sweep.name=<script>'"
ERROR = "RuntimeError: </pre><script>alert(2)</script>"
STAGES = {1: "balance", 3: "behavior"}
COUNT = 3  # evaluations; the last one passes the gate
PARAMS = {"species.title": "T. rex", "curriculum.max_fall_rate": "0.05", "curriculum.required_consecutive": "1"}


def fall_rate(algo: str, seed: int, number: int) -> float:
    """Return the falls at an evaluation: SAC's intervals lie below PPO's."""
    return {"ppo": 0.4, "sac": 0.1}[algo] + 0.01 * seed - 0.02 * number


def evaluations(algo: str, seed: int) -> list[Evaluation]:
    own = {"length_mean": 900.0, "success_rate": 0.5, "reward.alive_bonus": 30.0, "reward.energy_penalty": -10.0}
    return [
        Evaluation(100.0 * i + seed, int(i == COUNT - 1), fall_rate=fall_rate(algo, seed, i), **own)
        for i in range(COUNT)
    ]


class Sweep:
    """Writes a sweep as training leaves it: runs in MLflow and folders."""

    def __init__(self, name: str) -> None:
        self.folder, self.settings = Path("outputs") / name, compose(["species=trex"]).tracking
        store.create_store(self.settings)
        self.plan: dict[str, str] = {}

    def lineage(self, algo: str, seed: int) -> str:
        """Begin a lineage's run and return its name."""
        name = f"trex-{algo}-s{seed}"
        note = f"**T. rex**\n\n```sh\n{COMMAND}\n```\n"
        open_lineages(self.settings, {(self.folder / name).absolute(): {"lineage": name, NOTE: note}})
        return name

    def stage(self, lineage: str, algo: str, seed: int, index: int, status: str = "DONE", gate: str = "passed") -> Path:
        """Add a stage's run and folder."""
        folder = self.folder / lineage / f"{index}-{STAGES[index]}"
        tags = {
            "lineage": lineage, "status": status, "gate": gate, PARENT_TAG: Spool(folder.parent).run_id or "",
            store.FOLDER_TAG: str(folder.absolute()),
        }  # fmt: skip
        run = plain_run(
            evaluations(algo, seed), stage=STAGES[index], seed=seed, algo=algo, sweep=self.folder.name, tags=tags,
            params=PARAMS,
        )  # fmt: skip
        store.client(store.default_uri()).log_metric(run, "eval/null.zero.fall_rate", 0.75)
        write_status(folder, status=status, gate=gate, error=ERROR if status == "FAILED" else None, host="box")
        write_json(RunFolder(folder).sent, {"bytes": 0, "run_id": run})
        RunFolder(folder).log.write_text("log", encoding="utf-8")
        self.plan[f"{lineage}/{folder.name}"] = "key"
        return folder

    def end(self) -> None:
        """Write the plan."""
        write_json(SweepFiles(self.folder).plan, self.plan)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of two seconds."""
    path = tmp_path_factory.mktemp("film") / "video.mp4"
    noise = np.random.default_rng(0).integers(0, 255, (10, 256, 256, 3), np.uint8)
    imageio.mimwrite(path, noise, fps=5)  # type: ignore[call-overload]
    return path


@pytest.fixture(scope="module")
def place(made_store: Path, film: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a sweep: two algorithms, three seeds, two stages, one of which failed."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "outputs").mkdir()
    shutil.copy(made_store, folder / "outputs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        sweep = Sweep(NAME)
        for algo in ("ppo", "sac"):
            for seed in range(3):
                lineage = sweep.lineage(algo, seed)
                balance = sweep.stage(lineage, algo, seed, 1)
                sweep.stage(lineage, algo, seed, 3, *(("FAILED", "none") if lineage == "trex-sac-s2" else ()))
                if seed == 0:
                    shutil.copy(film, RunFolder(balance).video)
        sweep.end()
        early = sweep.folder / "trex-ppo-s0" / "2-locomotion"  # failed before MLflow knew it
        write_status(early, status="FAILED", error="ConfigError: early")
        write_json(SweepFiles(sweep.folder).plan, sweep.plan | {"trex-ppo-s0/2-locomotion": "key"})
    return folder


@pytest.fixture(scope="module")
def page(place: Path) -> Parsed:
    """The page of the sweep."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert word("report", NAME) == 0
    return Parsed((place / "outputs" / NAME / "report.html").read_text(encoding="utf-8"))


class Parsed(HTMLParser):
    """A parsed page.

    Attributes:
        text: all of it.
        tags: of every element.
        links: attributes that name something to load or to follow.
        tables: rows of cells by heading and caption.
    """

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source, self.text = source, ""
        self.tags: list[str] = []
        self.links: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self._where = self._heading = self._caption = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "poster", "xlink:href")]
        if tag == "table":
            self._caption = f"{self._heading}: {dict(attrs)['aria-label']}"
        elif tag == "h2":
            self._where, self._heading = tag, ""
        elif tag == "tr":
            self.tables.setdefault(self._caption, []).append([])
        elif tag in ("th", "td"):
            self._where = "cell"
            self.tables[self._caption][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("h2", "th", "td"):
            self._where = ""

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._where == "h2":
            self._heading += data
        elif self._where == "cell":
            self.tables[self._caption][-1][-1] += data

    def table(self, caption: str) -> list[list[str]]:
        """Return the rows of the first table whose heading and caption have this text."""
        return next(rows for title, rows in self.tables.items() if caption in title)


def test_overview_has_every_stage(page: Parsed) -> None:
    head, *rows = page.table("Every lineage")
    assert head == ["lineage", "1 balance", "2 locomotion", "3 bite"]
    by_lineage = {row[0]: row[1:] for row in rows}
    assert set(by_lineage) == {f"trex-{algo}-s{seed}" for algo in ("ppo", "sac") for seed in range(3)}
    assert all("passed" in cells[0] and "2.0 min" in cells[0] for cells in by_lineage.values())
    assert "failed" in by_lineage["trex-sac-s2"][2] and "failed" in by_lineage["trex-ppo-s0"][1]
    assert by_lineage["trex-ppo-s1"][1] == "–", "nothing is known of this stage"
    assert "success 50.0%" in by_lineage["trex-ppo-s1"][2]


def test_numbers_equal_records(page: Parsed) -> None:
    rows = {row[0]: row for row in page.table("1 balance: Evaluation of the checkpoint")}
    for algo in ("ppo", "sac"):
        for seed in range(3):
            lineage, gate, at, took, returned, length, falls = rows[f"trex-{algo}-s{seed}"]
            assert (gate, at, took, length) == ("✓ passed", f"{COUNT * STEPS / 1e6:.2f} M", "2.0", "900")
            assert returned == f"{100.0 * (COUNT - 1) + seed:.1f} ± 1.0"
            assert falls == f"{fall_rate(algo, seed, COUNT - 1):.1%}"
    assert rows["lineage"][-1] == "fallsgate: ≤ 5.0%"
    assert rows["doing nothing"][-1] == "75.0%" and rows["at random"][-1] == "–", "only one null policy was logged"


def test_null_policies_without_the_folder(has_store: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    experiment = store.create_store(compose([]).tracking)
    run_id = plain_run(evaluations("ppo", 0), stage="balance", experiment=experiment)
    record = read_stages(read_runs(Selection.parse("made")))[0]
    assert math.isnan(record.null("zero", "fall_rate")), "an older run"
    nulls = {"zero": {"fall_rate": 0.25, "time_to_event_mean_s": None}, "random": {"fall_rate": 1.0}}
    store.client(store.default_uri()).log_dict(run_id, nulls, RunFolder.null_policies.name)
    record = read_stages(read_runs(Selection.parse("made")))[0]
    assert (record.null("zero", "fall_rate"), record.null("random", "fall_rate")) == (0.25, 1.0)
    assert math.isnan(record.null("zero", "time_to_event_mean_s"))


def test_verdict_is_the_comparison(page: Parsed) -> None:
    assert "sac is better than ppo: their intervals do not overlap" in page.text
    assert "difference -30.0 (-31.3 … -28.7) percentage points" in page.text
    groups = {row[0]: row for row in page.table("1 balance: Groups of runs")}
    assert groups["sac"][1:4] == ["3 (0, 1, 2)", "7.0%", "6.0% … 8.0%"] and groups["sac"][4] == "3 of 3"
    assert "Verdict, curves and shares leave out 1 run that is not done." in page.text
    assert "No winner by success." in page.text, "every run has the same success"


def test_figures_name_the_groups(page: Parsed) -> None:
    assert page.tags.count("svg") == 2 * (2 + 2), "two curves and two groups' shares at each stage"
    labels = re.findall(r'role="img" aria-label="([^"]+)"', page.source)
    assert any(label.startswith("falls over environment steps. ppo: 37.0% at the end; sac: 7.0%") for label in labels)
    assert any("alive_bonus +75.0%, energy_penalty -25.0%" in label for label in labels)


def test_foreign_text_is_escaped(page: Parsed) -> None:
    assert "script" not in page.tags and NAME in page.text and ERROR in page.text
    assert html.escape(ERROR, quote=False).split("alert")[0] in page.source


def test_page_loads_nothing(page: Parsed, place: Path) -> None:
    assert "default-src 'none'" in page.source
    files = [link for link in page.links if not link.startswith(("data:", "#"))]
    assert files and not any(":" in link or link.startswith("/") for link in files)
    assert "trex-sac-s2/3-behavior/train.log" in files


def test_errors_have_their_log(page: Parsed) -> None:
    assert "trex-sac-s2/3-bite, log: " in page.text
    assert "ConfigError: early" in page.text and "trex-ppo-s0/2-locomotion, log: no log on this machine" in page.text


def test_heading_names_the_origin(page: Parsed) -> None:
    assert "12 stages of 6 lineages: 11 DONE, 1 FAILED" in page.text
    assert "1234567890ab" in page.text and COMMAND in page.text and "box" in page.text
    assert "not recorded" in page.text, "no bundle, so no versions"


def test_films_are_embedded(page: Parsed, film: Path) -> None:
    videos = [link for link in page.links if link.startswith("data:video/mp4;base64,")]
    assert len(videos) == 2
    assert all(base64.b64decode(video.partition(",")[2]) == film.read_bytes() for video in videos)
    assert sum(link.startswith("data:image/jpeg") for link in page.links) == 2
    missing = page.text[page.text.index("no film") :]
    assert "trex-ppo-s1/1-balance" in missing and "trex-ppo-s0/1-balance" not in missing


def test_page_is_an_artifact(page: Parsed, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    mlflow = store.client(store.default_uri())
    for algo in ("ppo", "sac"):
        parent = Spool(Path("outputs") / NAME / f"trex-{algo}-s1").run_id
        assert parent is not None and [one.path for one in mlflow.list_artifacts(parent)] == ["report.html"]


def test_no_run_is_an_error(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(place)
    assert word("report", "no-such-sweep") == 1
    assert "dinorl report: no-such-sweep: no " in capsys.readouterr().err
    assert not list(Path("outputs").glob("no-such-sweep"))


def test_search_that_runs(has_store: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = Sweep("found")
    for trial in (2, 10):
        sweep.stage(f"trial-{trial}-s0", "ppo", 0, 1, "RUNNING", "none")
    sweep.end()
    files = SearchFiles(sweep.folder)
    write_json(files.search, {})
    files.trials.write_text("trial,outcome,score\n2,pruned,<b>0.5\n", encoding="utf-8")
    files.scores.write_bytes(b"picture")
    made = Page("outputs/found")
    made.write(films=0.0)
    page = Parsed(made.path.read_text(encoding="utf-8"))
    assert made.path == sweep.folder / "report.html"
    assert page.table("The best 1 of 1 trials") == [["trial", "outcome", "score"], ["2", "pruned", "<b>0.5"]]
    assert "data:image/png;base64," + base64.b64encode(b"picture").decode() in page.links
    assert [row[0] for row in page.table("Every lineage")[1:]] == ["trial-2-s0", "trial-10-s0"]
    assert "No run of this stage is done: numbers are those so far." in page.text
    assert "No winner between" in page.text and "a verdict takes 3 seeds a group" in page.text


def record(name: str = "trex-ppo-s0", seed: int = 0, others: str = "", **curves: Curve) -> StageRecord:
    """Return a record without a folder."""
    tags = {"species": "trex", "algo": "ppo", "seed": str(seed), "lineage": name, "lineages": others or name}
    run = StageRun(name, name, tags, {}, {}, 0)
    return StageRecord(run, {f"eval/reward.{key}": curve for key, curve in curves.items()}, None)


def curve(*values: float, first: int = 10) -> Curve:
    return Curve(np.arange(first, first * (len(values) + 1), first), np.asarray(values))


def test_shares_of_absolute_reward() -> None:
    one = record(alive=curve(30.0, 10.0), energy=curve(-10.0, -30.0), nothing=curve(0.0, 0.1))
    ended = record(alive=curve(10.0), energy=curve(-10.0))
    found = shares([one, ended])
    assert found is not None and found.steps.tolist() == [10, 20]
    assert found.terms["alive"].tolist() == pytest.approx([(0.75 + 0.5) / 2, (10.0 / 40.1 + 0.5) / 2])
    assert found.terms["energy"].tolist() == pytest.approx([-(0.25 + 0.5) / 2, -(30.0 / 40.1 + 0.5) / 2])
    assert list(merged(found).terms) == ["alive", "energy", OTHER]
    assert shares([record()]) is None
    assert all(math.isfinite(value) for values in found.terms.values() for value in values)


def test_groups_leave_out_the_seed() -> None:
    first, second = "trex-ppo-s0-3.env.bite_bonus-500", "trex-ppo-s0-3.env.bite_bonus-900"
    shared = record(first, others=f"{first},{second}")
    own = [record(first), record(second), record(first.replace("s0", "s1"), seed=1)]
    names = group_names([shared, *own])
    assert set(names.values()) == {"3.env.bite_bonus-500", "3.env.bite_bonus-900"}
    assert list(grouped([shared], names)) == [ALL]
    assert {label: len(group) for label, group in grouped(own, names).items()} == {
        "3.env.bite_bonus-500": 2, "3.env.bite_bonus-900": 1
    }  # fmt: skip
    assert set(group_names([record()]).values()) == {"ppo"}


def test_films_keep_to_their_budget(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(films, "LEAST", 1)
    size = film.stat().st_size
    records = [SimpleNamespace(folder=film.parent, run=SimpleNamespace(name=name)) for name in "abc"]
    first, second, third = read_films(records, 1.9 * size)  # type: ignore[arg-type]
    assert first.note == "" and first.video is not None
    assert second.note == SMALLER and second.video is not None
    assert third.note == TOO_LARGE and third.video is None and third.link == film
    taken = sum(len(base64.b64decode((one.video or ",").partition(",")[2])) for one in (first, second, third))
    assert taken <= 1.9 * size
    damaged = tmp_path / "video.mp4"
    damaged.write_bytes(b"no film")
    (bad,) = read_films([SimpleNamespace(folder=tmp_path)], 1e6)  # type: ignore[list-item]
    assert bad.video is None and bad.note == films.DAMAGED
