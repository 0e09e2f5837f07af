"""Live progress of a stage: a bar in a terminal, else a plain line now and then."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from dinorl.tracking.listener import Progress

PLAIN_EVERY = 10.0  # s


class StageProgress:
    """Shows the progress of a stage.

    Args:
        title: of the stage, such as ``T. rex 2/3 locomotion (sac)``.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.console = Console(highlight=False)
        self._bar: Bar | None = None
        self._next_line = 0.0

    def update(self, progress: Progress) -> None:
        """Show the progress."""
        step, total = progress.step, progress.total
        text = (
            f"{progress.rate:,.0f} steps/s  return {progress.episode_return:.1f}  "
            f"length {progress.episode_length:.0f}  gate {progress.gate}"
        )
        if self.console.is_terminal:
            if self._bar is None:
                self._bar = Bar(
                    TextColumn("{task.description}"), BarColumn(),
                    TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
                    TextColumn("{task.fields[text]}"), TimeRemainingColumn(), console=self.console, transient=True,
                )  # fmt: skip
                self._bar.add_task(self.title, total=total, text=text)
                self._bar.start()
            self._bar.update(self._bar.task_ids[0], completed=step, text=text)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + PLAIN_EVERY
            left = (total - step) / progress.rate if progress.rate > 0 else float("nan")
            self.say(f"{step:,}/{total:,}  {text}  {left:.0f} s left")

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self.console.print(f"{self.title}: {text}", markup=False, soft_wrap=True)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
