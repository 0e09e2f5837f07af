"""Passwords in addresses: configs, logs, bundles and messages hold ``***`` instead."""

from __future__ import annotations

import os
import re

from dinorl.config.errors import ConfigError

HIDDEN = "***"
# Has the whole address, for the processes of a command.
VARIABLE = "DINORL_TRACKING_URI"
_USER = re.compile(r"(://[^/\s:@]*:)[^/\s]+(?=@)")
_QUERY = re.compile(r"([?&](?:\w*password|passwd|token|secret|api_?key)=)[^&\s'\"]+", re.IGNORECASE)


def hide(text: str) -> str:
    """Return a text whose addresses have no password."""
    return _QUERY.sub(rf"\1{HIDDEN}", _USER.sub(rf"\1{HIDDEN}", text))


def keep(address: str | None) -> str | None:
    """Return an address without its password, and keep that in the environment, for :func:`whole`."""
    if address is None or (hidden := hide(address)) == address:
        return address
    os.environ[VARIABLE] = address
    return hidden


def whole(address: str) -> str:
    """Return an address with its password.

    Raises:
        ConfigError: this process does not have it.
    """
    if HIDDEN not in address:
        return address
    for name in (VARIABLE, "MLFLOW_TRACKING_URI"):
        if hide(known := os.environ.get(name, "")) == address:
            return known
    raise ConfigError(
        f"{address}: its password is kept nowhere. Set the environment variable MLFLOW_TRACKING_URI to the whole "
        "address, and type the same command again"
    )
