"""By which names this server may be addressed, and from which pages.

A page of another site can make a name of its own resolve to 127.0.0.1 and then talk to this server as if it were that
site (DNS rebinding); the Host header still holds the site's name, so a name that is not known is refused.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_SAME = frozenset({"same-origin", "none"})  # "none": typed, bookmarked


def host_name(header: str) -> str | None:
    """The name in a Host header, without port and brackets, in lower case; None for what is no such header."""
    try:
        parts = urlsplit(f"//{header}")
        name, _ = parts.hostname, parts.port  # the port raises where it is no number
    except ValueError:
        return None
    if not name or any(char in header for char in "/@?#\\ \t"):
        return None
    return name.rstrip(".")


def allowed_hosts(host: str, others: Iterable[str]) -> frozenset[str]:
    """The names that requests may use: loopback, the address listened on, and what the operator added."""
    names = {*LOOPBACK, *(name.lower() for name in others)}
    if host not in ("", "0.0.0.0", "::"):  # noqa: S104  # compared, not bound
        names.add(host.lower())
    return frozenset(names)


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_own_page(headers: Mapping[str, str], *, needs_proof: bool) -> bool:
    """Whether the request comes from a page of this server, as far as the browser says.

    Browsers send ``Sec-Fetch-Site``, older ones ``Origin`` with what changes something. ``needs_proof``: refuse where
    neither is there. Other ports of this machine are other pages, though browsers count them to the same site.
    """
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    host = headers.get("host", "").lower()
    # https: a proxy before this server takes the encryption off, and the browser does not know. Nobody else can serve a
    # page under our own host and port.
    if origin is not None and origin.lower() not in (f"http://{host}", f"https://{host}"):
        return False
    if site is not None:
        return site in _SAME
    return origin is not None or not needs_proof
