"""``dinorl regress species=trex``: trains the curriculum on the changed recipe and compares it with before."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from dinorl.commands import Parser

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dinorl.verdicts.regression import StageResult

SUMMARY = "Train the curriculum on the changed recipe, and name the stages that got worse."
REFUSED = 2
SEEDS = "seed=0,1,2"


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=f"as for training; default {SEEDS}")
    parser.add_argument("--against", metavar="SWEEP", help="the runs before: a sweep or a selection of runs")
    parser.add_argument("--metric", help="of every stage (default: what each is for)")
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help="a folder of configs of your own")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")


def run(options: Namespace) -> int:
    """Find the baseline, train, compare; return the exit status: 1 if a stage is worse."""
    from dinorl.commands import TRAIN, load
    from dinorl.files.run_folder import as_json, write_text
    from dinorl.sweep.rerun import plan_rerun
    from dinorl.tracking.store import uri_of
    from dinorl.tracking.terminal import say
    from dinorl.verdicts.comparison import metric_named
    from dinorl.verdicts.regression import WORSE, check_metric, compare_stages, find_baseline

    overrides = list(options.overrides)
    if not any(override.startswith("seed=") for override in overrides):
        overrides.append(SEEDS)
    flags = ["--config-dir", str(options.config_dir)] if options.config_dir else []
    planned = plan_rerun(overrides, options.config_dir)
    uri = uri_of(planned.curricula[0][0].tracking)
    baselines = [find_baseline(configs, planned.sweep, options.against, uri) for configs in planned.curricula]
    metric = metric_named(options.metric) if options.metric else None
    if metric is not None:
        check_metric(metric, baselines)
    for baseline in baselines:
        for line in (f"against {baseline}", *baseline.notes):
            say(line)
    status = int(load(TRAIN).run([*flags, *overrides, *planned.named]))
    if status or planned.only:
        if status:
            say("nothing was compared; type the same again to train what is missing")
        return status
    results = [
        result
        for configs, baseline in zip(planned.curricula, baselines, strict=True)
        for result in compare_stages(configs, baseline, planned.sweep, metric, uri)
    ]
    _print(results)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        content = {"sweep": planned.sweep, "against": [one.name for one in baselines]}
        write_text(options.json, as_json(content | {"stages": [one.to_json() for one in results]}, indent=2) + "\n")
        say(f"wrote {options.json}")
    return int(any(result.having(WORSE) for result in results))


def _print(results: Sequence[StageResult]) -> None:
    from rich.table import Table

    from dinorl.tracking.terminal import console, say
    from dinorl.verdicts.comparison import LEAST_SEEDS
    from dinorl.verdicts.regression import UNCLEAR, WORSE

    table = Table(title="before and now", title_justify="left")
    for column in ("stage", "", "before", "now", "95 % interval of the difference", "verdict"):
        table.add_column(column, overflow="fold")
    for result in results:
        for i, check in enumerate(result.checks):
            numbers = (check.shown(check.before), check.shown(check.now), check.ends, check.verdict)
            table.add_row("" if i else result.name, check.what, *numbers)
    console().print(table)
    for result in results:
        for check in result.having(WORSE):
            say(f"WORSE: {result.name}: {check.text}")
        if unclear := ", ".join(check.what for check in result.having(UNCLEAR)):
            before, now = map(len, result.seeds)
            few = f"a verdict takes {LEAST_SEEDS}" if min(before, now) < LEAST_SEEDS else "the intervals overlap"
            say(f"cannot tell: {result.name}: {unclear} (seeds before: {before}, now: {now}; {few})")
    if not any(result.having(WORSE) for result in results):
        say("no stage is worse")
