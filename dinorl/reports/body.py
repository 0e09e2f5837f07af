"""Tables of a checked body."""

from __future__ import annotations

from rich.table import Table

from dinorl.sim.check import Report
from dinorl.sim.servos import Servo


def parts_table(report: Report) -> Table:
    """Return what was found in a body, part by part, with faults and doubts."""
    shown = Table(title=str(report.path), title_justify="left")
    for column in ("part", "found", "fault or doubt"):
        shown.add_column(column, overflow="fold")
    by_part: dict[str, list[str]] = {part: [] for part in report.facts}
    for finding in report.findings:
        verdict = "fault" if finding.fault else "doubt"
        by_part.setdefault(finding.part, []).append(f"{verdict}: {finding.problem}. {finding.hint}")
    for part, verdicts in by_part.items():
        for row, verdict in enumerate(verdicts or [""]):
            found = report.facts.get(part, "") if row == 0 else ""
            # brackets of a list are no markup
            shown.add_row("" if row else part, *(text.replace("[", r"\[") for text in (found, verdict)))
    return shown


def servos_table(report: Report) -> Table:
    """Return every actuator's kind, range and span from home."""
    shown = Table(title="servos", title_justify="left")
    for column in ("name", "kind", "drives", "range, rad", "home", "action -1", "action 1"):
        shown.add_column(column, justify="left" if column in ("name", "kind", "drives") else "right")
    for servo in report.servos:
        shown.add_row(servo.label, servo.kind, servo.drives, *_angles(servo))
    return shown


def summary(report: Report) -> str:
    """Return the numbers of faults and doubts in words."""
    counts = [(len(report.faults), "fault"), (len(report.doubts), "doubt")]
    return ", ".join(f"{count or 'no'} {word}{'' if count == 1 else 's'}" for count, word in counts)


def _angles(servo: Servo) -> tuple[str, str, str, str]:
    """Return range, home and the moves of actions -1 and 1, rad."""
    if not servo.usable or servo.home is None:
        return (f"{servo.low:.2f} … {servo.high:.2f}" if servo.limited else "none", "–", "–", "–")
    down, up = servo.spans
    return f"{servo.low:.2f} … {servo.high:.2f}", f"{servo.home:.2f}", f"{-down:+.2f}", f"{up:+.2f}"
