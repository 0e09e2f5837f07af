"""Dispatches a command line to a word; turns errors into messages and exit statuses."""

from __future__ import annotations

import signal
import sys

from dinorl import commands
from dinorl.commands import TRAIN, _complete
from dinorl.config.errors import ConfigError, nearest
from dinorl.config.tree import top_keys
from dinorl.files.process import on_stop

INTERRUPTED = 130  # as in shells


def call(arguments: list[str]) -> int:
    """Run a word and print its error, if any.

    Returns:
        The exit status: 0; 1: failed; 2: wrong command; 130: interrupted.
    """
    name, refused = "dinorl", 2
    try:
        if _complete.asked(arguments):
            return _complete.answer(arguments)
        word, rest = split(arguments)
        module = commands.load(word)
        if word == TRAIN:
            return int(module.run(rest))
        name, refused = f"dinorl {word}", getattr(module, "REFUSED", 1)
        return int(module.run(commands.parser(word).read(rest)))
    except ConfigError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return refused
    except RuntimeError as error:
        if name == "dinorl":  # a bug: training reports its errors itself
            raise
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # such as a full disk
        print(f"{name}: {_shown(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        on_stop(signal.SIG_IGN)  # let the message finish
        print("dinorl: interrupted", file=sys.stderr)
        return INTERRUPTED


def split(arguments: list[str]) -> tuple[str, list[str]]:
    """Return a command line's word (default :data:`TRAIN`) and the rest.

    Raises:
        ConfigError: there is no such word.
    """
    if not arguments or not commands.is_word(arguments[0]):
        return TRAIN, arguments
    word, known = arguments[0], commands.words()
    if word in known:
        return word, arguments[1:]
    if word.partition("/")[0] in top_keys():  # Hydra explains the missing value
        return TRAIN, arguments
    close = nearest(word, known)
    if close:
        raise ConfigError(f"{word}: there is no such word; the nearest is {close[0]}. Type dinorl {close[0]} …")
    raise ConfigError(
        f"{word}: there is no such word; expected {', '.join(known)}, or what to train, such as species=trex"
    )


def _shown(error: OSError) -> str:
    if error.strerror is None:
        return str(error)
    return f"{error.filename or 'a file'}: {error.strerror}"
