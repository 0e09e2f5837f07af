"""Shows diagnoses: a table of runs, then each run's symptoms with numbers, cause and commands to paste."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.table import Table

from dinorl.verdicts.diagnosis import Diagnosis, Found, Proposal
from dinorl.verdicts.recipe_text import text_of
from dinorl.verdicts.remedies import assigned, command, repeat


def table(diagnoses: Sequence[Diagnosis]) -> Table:
    """Return a row each run, with its symptoms in short."""
    drawn = Table(title="diagnosis", title_justify="left")
    for column in ("run", "gate", "steps", "symptoms"):
        drawn.add_column(column, justify="right" if column == "steps" else "left", overflow="fold")
    for one in diagnoses:
        titles = ", ".join(found.symptom.title for found in one.found) or "none"
        drawn.add_row(name(one), one.runs[0].gate or "–", f"{one.runs[0].evaluations[-1].steps:,}", titles)
    return drawn


def name(diagnosis: Diagnosis) -> str:
    """Return the run's name, or those of the runs that differ in their seeds."""
    first = diagnosis.runs[0]
    if len(diagnosis.runs) == 1:
        return first.name
    return f"{first.species} {first.label} {first.algo}, seeds {', '.join(str(run.seed) for run in diagnosis.runs)}"


def lines(diagnosis: Diagnosis) -> Iterator[str]:
    """Yield a run's symptoms: numbers, cause, and the commands to paste, most effective first."""
    if not diagnosis.found and not diagnosis.unmeasured:
        return
    where = ", ".join(run.where for run in diagnosis.runs)
    yield where if where == name(diagnosis) else f"{name(diagnosis)}: {where}"
    again = _again(diagnosis)
    for found in diagnosis.found:
        yield from _symptom(found)
        proposals = diagnosis.proposals(found)
        yield from (f"    {_line(proposal, again)}" for proposal in proposals)
        if not proposals:
            yield "    this run has every remedy of the playbook already"
    for title, why in diagnosis.unmeasured.items():
        yield f"  cannot tell: {title} ({why})"


def _symptom(found: Found) -> Iterator[str]:
    symptom = found.symptom
    yield ""
    yield f"  {symptom.title}"
    for evidence in found.evidence:
        yield f"    {evidence}"
    yield f"    cause: {symptom.cause}"
    for head, text in (("published", symptom.published), ("ours", symptom.ours)):
        if text is not None:
            yield f"    {head}: {text}"


def _line(proposal: Proposal, again: list[str]) -> str:
    """Return a command with a comment: what the values were, and what others have."""
    changed = {one.key for one in proposal.overrides}
    typed = [word for word in again if word.partition("=")[0] not in changed] + [str(one) for one in proposal.overrides]
    notes = [f"was {', '.join(text_of(one.was).replace(' ', '') for one in proposal.overrides)}"]
    for head, text in (("published", proposal.remedy.published), ("ours", proposal.remedy.ours)):
        if text is not None:
            notes.append(f"{head} {text}")
    return f"{command(typed)}  # {'; '.join(notes)}"


def _again(diagnosis: Diagnosis) -> list[str]:
    """Return the arguments that repeat the run, or the runs of all seeds; empty if there is no reason to."""
    first = diagnosis.runs[0]
    seeds = f"seed={','.join(str(run.seed) for run in diagnosis.runs)}"
    return [seeds if word == f"seed={first.seed}" else word for word in repeat(first)] if diagnosis.found else []


def as_data(diagnosis: Diagnosis) -> dict[str, Any]:
    """Return a diagnosis for JSON; commands have what repeats the run."""
    first = diagnosis.runs[0]
    return {
        "runs": [run.where for run in diagnosis.runs], "name": name(diagnosis), "species": first.species,
        "stage": first.label, "algo": first.algo, "gate": first.gate, "steps": first.evaluations[-1].steps,
        "repeat": _again(diagnosis), "unmeasured": diagnosis.unmeasured,
        "symptoms": [
            {
                "name": found.name, "title": found.symptom.title, "cause": found.symptom.cause,
                "measured": {one.comparison.measure: one.value.number for one in found.evidence},
                "overrides": [[assigned(o.key, o.value) for o in p.overrides] for p in diagnosis.proposals(found)],
            }
            for found in diagnosis.found
        ],
    }  # fmt: skip
