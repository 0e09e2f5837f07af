"""What is wrong or doubtful about a body, and what to type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dinorl.config import ConfigError


@dataclass(frozen=True)
class Finding:
    """A fault, which makes training meaningless or impossible, or a doubt."""

    part: str  # of the body, such as ``floor``
    problem: str  # what was found, what was expected
    hint: str  # what to type, without its full stop
    fault: bool = True

    def __str__(self) -> str:
        return f"{self.part}: {self.problem}. {self.hint}"


def doubt(part: str, problem: str, hint: str) -> Finding:
    """Return a finding that refuses nothing."""
    return Finding(part, problem, hint, fault=False)


def about(part: str, names: Sequence[str], problem: str, hint: str, fault: bool = True) -> Iterator[Finding]:
    """Yield one finding about several names, none if there are none."""
    if names:
        yield Finding(part, f"{', '.join(names)}: {problem}", hint, fault)


def refusal(path: Path, findings: Sequence[Finding]) -> ConfigError:
    """Return one error that lists all findings of a file."""
    where, few = f"species.mjcf={path}", len(findings) == 1
    if few:
        return ConfigError(f"{where}: {findings[0]}")
    return ConfigError("\n  ".join([f"{where}: {len(findings)} faults", *map(str, findings)]))
