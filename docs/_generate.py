"""Write the reference pages from the code: ``python docs/_generate.py FOLDER``."""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
import sys
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dinorl.config import conf_dir

# A comment's first words that are a unit.
UNIT = re.compile(
    r"((?:per )?(?:m/s|rad/s|rad|m|s|Hz|seconds|(?:control|physics|environment) steps|transitions)"
    r"(?: and rad/s)?)(?:[,:;] +|$)"
)
LINE = re.compile(r"(?P<indent> *)(?P<key>[\w]+): *(?P<value>[^#]*?) *(?:# *(?P<comment>.*))?$")

TOP_LEVEL = r"^(seed|warm_start|resume|plan_only): *(\S+) *# *(.*)$"


def write(folder: Path) -> None:
    """Write every page; unchanged files keep their time, so that Sphinx reads only what changed."""
    folder.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        path, text = folder / f"{name}.md", page()
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *([escaped(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def escaped(cell: str) -> str:
    """Return a table's cell without what Markdown would read."""
    cell = cell.replace("|", "\\|")
    return cell if cell.startswith("`") else cell.replace("<", "\\<")


def sentence(documented: Any) -> str:
    """Return a docstring's first paragraph, as Markdown."""
    paragraph = (inspect.getdoc(documented) or "").split("\n\n")[0]
    return " ".join(paragraph.split()).replace("``", "`")


def keys_of(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (key, value, comment) of each leaf of a YAML file of ``conf/``."""
    text = path.read_text()
    package = re.match(r"# @package (\w+)", text)
    assert package is not None
    parents = [] if package.group(1) == "_global_" else [package.group(1)]
    depth = len(parents)
    for line in text.splitlines():
        found = LINE.fullmatch(line)
        if found is None:
            continue
        level = len(found["indent"]) // 2 + depth
        parents[level:] = [found["key"]]
        if found["value"]:
            yield ".".join(parents), found["value"], found["comment"] or ""


def optional(hint: Any) -> bool:
    """Whether a type allows None, below its annotations."""
    while typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    return type(None) in typing.get_args(hint)


def schema_types(species: str, algorithm: str = "ppo") -> dict[str, str]:
    """Return key → what a value can be, those of a species' event and of an algorithm included."""
    from dinorl.config import compose

    cfg = compose([f"species={species}", f"algo={algorithm}"])
    return {**node_types(type(cfg)), **{f"env.{key}": kind for key, kind in node_types(type(cfg.env)).items()}}


def node_types(node: type) -> dict[str, str]:
    """Return key → what a value can be, of a dataclass and the nodes below."""
    from dinorl.config.kinds import expectation

    def walk(kind: type, prefix: str) -> Iterator[tuple[str, str]]:
        for name, hint in typing.get_type_hints(kind, include_extras=True).items():
            if dataclasses.is_dataclass(hint):
                yield from walk(typing.cast(type, hint), f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}", expectation(hint) + (" or null" if optional(hint) else "")

    return dict(walk(node, ""))


def units() -> dict[str, str]:
    """Return key → unit of declared parameters; other keys have theirs in their comment."""
    from dinorl.config import compose
    from dinorl.tasks.parameters import env_parameters, event_parameters

    declared = env_parameters()
    for path in conf_dir().glob("species/*.yaml"):
        declared += event_parameters(compose([f"species={path.stem}"]).species.event.keys)
    return {f"env.{parameter.name}": parameter.unit for parameter in declared}


def config_keys() -> str:
    """Return the page of config keys: defaults and meanings from ``conf/``, possible values from the schema."""
    from dinorl.config import SearchConfig
    from dinorl.config.algorithms import left_out

    animals, more = sorted(conf_dir().glob("species/*.yaml")), sorted(left_out(""))
    types = {key: kind for path in animals for key, kind in schema_types(path.stem).items()}

    for algorithm in more:
        types |= schema_types(animals[0].stem, algorithm)
    types |= {f"search.{key}": kind for key, kind in node_types(SearchConfig).items()}
    declared = units()

    def row(key: str, value: str, comment: str) -> tuple[str, str, str, str, str]:
        leading = UNIT.match(comment)
        meaning = comment[leading.end() :] if leading else comment
        unit = leading.group(1) if leading else declared.get(key, "")
        return f"`{key}`", f"`{value}`", types.get(key, ""), unit, meaning

    head = ("key", "default", "value", "unit", "meaning")
    page = (
        "# Config keys\n\nDefaults are those of `conf/base`; a recipe may set others. See [the config](../config.md).\n"
    )
    for name in ("env", "curriculum", "algo", "ppo", "sac", "sim", "eval", "tracking"):
        page += f"\n## {name}\n\n{table(head, (row(*leaf) for leaf in keys_of(conf_dir() / 'base' / f'{name}.yaml')))}"
    for algorithm in more:
        leaves = keys_of(conf_dir() / "algo" / f"{algorithm}.yaml")
        own = [row(*leaf) for leaf in leaves if leaf[0].startswith(f"{algorithm}.")]
        page += f"\n## {algorithm}\n\n{table(head, own)}"
    page += f"\n## search\n\n{table(head, (row(*leaf) for leaf in keys_of(conf_dir() / 'search.yaml')))}"
    top = re.findall(TOP_LEVEL, (conf_dir() / "config.yaml").read_text(), re.M)
    page += f"\n## Top level\n\n{table(head, (row(*leaf) for leaf in top))}"
    for path in animals:
        leaves = [row(*leaf) for leaf in keys_of(path) if leaf[0].startswith("env.")]
        page += f"\n## env, {path.stem}\n\n{table(head, leaves)}"
    return page


def reward_terms() -> str:
    """Return the page of reward terms, from their declarations."""
    from dinorl.tasks.declare import Term
    from dinorl.tasks.events import EVENT_TERMS
    from dinorl.tasks.rewards import TERMS

    def row(key: str, term: Term) -> tuple[str, str, str]:
        return key, sentence(term.function), ", ".join(f"`env.{parameter.name}`" for parameter in term.parameters)

    head = ("what it pays for or charges", "parameters")
    every = (row(f"`env.{term.weight.name}`", term) for term in TERMS.values())
    roles = (row(f"`{role}`", term) for role, term in EVENT_TERMS.items())
    return (
        "# Reward terms\n\nThe reward of a control step is the sum of its terms, each times its weight. A weight of 0 "
        "switches its term off. Penalties are negative themselves, so their weights are positive. "
        f"`env.fall_penalty` is paid once, at a fall.\n\n{table(('weight', *head), every)}\n## Terms of the event\n\n"
        "A species gives each role a key under `env`, such as `env.bite_bonus` or `env.strike_bonus` for `bonus`.\n\n"
        + table(("role", *head), roles)
    )


def observation() -> str:
    """Return the page of observations, from their table."""
    from dinorl.tasks.observation import PIECES

    def row(piece: Any) -> tuple[str, ...]:
        signs = " ".join("+" if sign > 0 else "−" for sign in piece.signs)
        return f"`{piece.name}`", piece.part, str(len(piece.signs)), signs, piece.unit

    return (
        "# Observation\n\nThe pieces of the observation, in order. `_h` is the heading frame of the animal: x ahead, "
        "y to its left, z up. `_b` is the frame of its trunk. Each part has so many numbers, which take these signs in "
        "the mirror; left and right parts are swapped there.\n\n"
        + table(("piece", "parts", "numbers each", "mirror", "unit"), map(row, PIECES))
    )


def metrics() -> str:
    """Return the page of metrics, from their table."""
    from dinorl.evaluation.metrics import METRICS

    better = {"up": "higher", "down": "lower", None: ""}
    rows = ((f"`{metric.name}`", metric.unit, metric.meaning, better[metric.better]) for metric in METRICS)
    return (
        "# Metrics\n\nEvery evaluation has these, over the first episode of each animal. They are columns of "
        "`eval.csv` and, as `eval/…`, metrics in MLflow. `reward.<term>` is the mean sum of a reward term over an "
        "episode.\n\n" + table(("metric", "unit", "meaning", "better"), rows)
    )


def playbook() -> str:
    """Return the page of symptoms with their remedies, and of the measures that they compare."""
    from dinorl.verdicts.measures import MEASURES
    from dinorl.verdicts.playbook import load

    book = load()
    used = {one.measure for symptom in book.values() for one in (*symptom.when, *symptom.one_of)}
    derived = ((f"`{name}`", sentence(one.documented)) for name, one in MEASURES.items() if one.documented)
    page = (
        "# Symptoms and remedies\n\nWhat `dinorl diagnose` knows, from `conf/playbook.yaml`; "
        "[the playbook](../playbook.md) says how to read and change it. `{algo}` is the run's algorithm; other braces "
        "are roles of the species' event.\n"
    )
    for symptom in book.values():
        page += f"\n## {symptom.title[0].upper()}{symptom.title[1:]}\n\n{_symptom(symptom)}"
    metrics = ", ".join(f"`{name}`" for name in MEASURES if name in used and not MEASURES[name].documented)
    return page + (
        f"\n## Measures\n\nA comparison takes any [metric](metrics.md) (used above: {metrics}) or one of these.\n\n"
        + table(("measure", "meaning"), derived)
    )


def _symptom(symptom: Any) -> str:
    """Return a symptom's section: where, condition, cause, numbers, remedies."""
    where = ", ".join(symptom.stages) + (f"; {symptom.algo}" if symptom.algo else "")
    holds = [_compared(one) for one in symptom.when]
    holds += [f"({' or '.join(map(_compared, symptom.one_of))})"] if symptom.one_of else []
    lines = [f"Stages: {where}. Holds if {' and '.join(holds)}. Likely cause: {symptom.cause}."]
    lines += [f"{head}: {text}." for head, text in (("Published", symptom.published), ("Ours", symptom.ours)) if text]
    rows = [
        ("; ".join(f"`{key}`: {_change(change)}" for key, change in one.change.items()),
         ", ".join([*(one.stages or ()), *([one.algo] if one.algo else ())]), one.published or "", one.ours or "")
        for one in symptom.remedies
    ]  # fmt: skip
    return "\n\n".join(lines) + "\n\n" + table(("remedy", "only", "published", "ours"), rows)


def _compared(one: Any) -> str:
    word, bound = ("above", one.above) if one.above is not None else ("below", one.below)
    return f"`{one.measure}`{'' if one.of == 'kept' else f' ({one.of})'} {word} {bound:g}"


def _change(change: Any) -> str:
    """Return in words how a value is made."""
    if change.set is not None:
        return str(change.set)
    words = [f"{'its value' if change.of is None else f'`{change.of}`'}"]
    if change.times is not None:
        words.append(f"× {change.times if isinstance(change.times, list) else format(change.times, 'g')}")
    bounds = [f"at least {change.at_least:g}"] if change.at_least is not None else []
    bounds += [f"at most {change.at_most:g}"] if change.at_most is not None else []
    plain = bounds and change.of is None and change.times is None
    return ", ".join(bounds if plain else [" ".join(words), *bounds])


def commands() -> str:
    """Return the page of commands: each one's help."""
    from dinorl import commands

    os.environ["COLUMNS"] = "100"
    page = (
        "# Commands\n\n`dinorl WORD …` runs a command; `dinorl` without a word trains, with Hydra's overrides and "
        "options. See [get started](../get_started.md).\n"
    )
    for word in commands.words():
        page += f"\n## {word}\n\n{commands.load(word).SUMMARY}\n"
        if word != commands.TRAIN:
            parser = commands.parser(word)
            for one in (parser, *parser.subcommands.values()):
                page += f"\n```text\n{one.format_help()}```\n"
    return page


def environment_ids() -> str:
    """Return the page of Gymnasium ids, with the sizes of their spaces."""
    import gymnasium

    from dinorl.envs.registration import environment_ids

    def row(name: str, species: str, stage: str) -> tuple[str, ...]:
        env = gymnasium.make(name)
        sizes = (str(space.shape[0]) for space in (env.observation_space, env.action_space) if space.shape)
        env.close()
        return f"`{name}`", species, stage, *sizes

    rows = [row(name, *of) for name, of in environment_ids().items()]
    return "# Environment ids\n\n" + table(("id", "species", "stage", "observation", "action"), rows)


def run_folder() -> str:
    """Return the page of files, from the classes that name them."""
    from dinorl.files import run_folder as files

    page = "# Run-folder files\n\nWhat lies below `outputs/`, who writes it and what it holds.\n"
    for kind in vars(files).values():
        if not (isinstance(kind, type) and issubclass(kind, files.Folder) and kind is not files.Folder):
            continue
        rows = ((f"`{one.name}`", f"`dinorl/{one.writer}`" if "/" in one.writer else one.writer, one.content)
                for one in kind.entries().values())  # fmt: skip
        page += f"\n## {sentence(kind).rstrip('.')}\n\n{table(('name', 'writer', 'content'), rows)}"
    return page


PAGES: dict[str, Callable[[], str]] = {
    "config_keys": config_keys,
    "reward_terms": reward_terms,
    "observation": observation,
    "metrics": metrics,
    "playbook": playbook,
    "commands": commands,
    "environment_ids": environment_ids,
    "run_folder": run_folder,
}

if __name__ == "__main__":
    write(Path(sys.argv[1]))
