"""Groups of a sweep's runs: lineages that differ only by their seed."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dinorl.reports.stages import StageRecord

ALL = "all lineages"
SEVERAL = " and "


def group_names(records: Sequence[StageRecord]) -> dict[str, str]:
    """Return the group of each lineage: what its name says beside the seed and what all have in common.

    Args:
        records: of one animal.
    """
    names: dict[str, str] = {}
    for record in records:
        for lineage in record.lineages:
            names[lineage] = re.sub(rf"-s{record.run.tags['seed']}(?=-|$)", "", lineage, count=1)
    for common in (records[0].run.tags["species"], records[0].run.tags["algo"]):
        shorter = {lineage: name.removeprefix(f"{common}-") for lineage, name in names.items()}
        if all(shorter[lineage] != name for lineage, name in names.items()):
            names = shorter
    return names


def grouped(records: Sequence[StageRecord], names: dict[str, str]) -> dict[str, list[StageRecord]]:
    """Return runs of one stage by group.

    Args:
        records: of one animal and stage; one that several groups share makes a group with its like.
        names: see :func:`group_names`.
    """
    everybody = set(names.values())
    groups: dict[str, list[StageRecord]] = {}
    for record in records:
        own = dict.fromkeys(names[lineage] for lineage in record.lineages)
        label = ALL if len(own) > 1 and set(own) == everybody else SEVERAL.join(own)
        groups.setdefault(label, []).append(record)
    return groups
