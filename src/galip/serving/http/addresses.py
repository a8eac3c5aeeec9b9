"""Where the service listens, and what the person who starts it is told of that."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

from galip.errors import InputError

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")
"""What this machine calls itself."""


def listen(host: str, port: int) -> socket.socket:
    """Take an address. Done before a model is loaded, so that one that cannot be had is found at once.

    Args:
        host: a name or number; 0.0.0.0 or "" for all addresses of this machine.
        port: 0 for a free one.

    Raises:
        InputError: there is no such address, or somebody has it.
    """
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise InputError(f"--host {host}: there is no such address ({error.strerror})") from error
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise InputError(f"{host}:{port} cannot be had ({error.strerror}); choose another --port or --host") from error
    return listener


def announce(host: str, port: int, root_path: str, open_to_all: bool, remark: str = "") -> None:
    """Print the address for a browser, and a warning where other machines can use it without a key.

    Args:
        host, port: where it listens.
        root_path: what a proxy puts before the paths.
        open_to_all: whether no key is asked for.
        remark: goes behind the address.
    """
    shown = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host
    shown = f"[{shown}]" if ":" in shown else shown
    print(f"galip: http://{shown}:{port}{root_path}/{remark}", flush=True)
    if not is_loopback(host) and open_to_all:
        print("Other machines can reach it, and no key is asked for: see --api-keys", flush=True)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def allowed_hosts(host: str, names: Sequence[str], open_to_all: bool) -> tuple[str, ...]:
    """What `Settings.allowed_hosts` should be.

    Args:
        host: where the service listens.
        names: further names that were asked for.
        open_to_all: whether no key is asked for.

    Returns:
        The names; of a service that only this machine can reach without a key, its loopback names too. Empty: any.
    """
    own = (*LOOPBACK_NAMES, host) if is_loopback(host) and open_to_all else ()
    return tuple(dict.fromkeys((*own, *names)))
