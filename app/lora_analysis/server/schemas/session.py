"""Logging in, and what this server is."""

from __future__ import annotations

from pydantic import Field

from .common import Model, Reply


class Login(Model):
    """One of the two."""

    token: str | None = Field(default=None, max_length=500)
    password: str | None = Field(default=None, max_length=500)


class Session(Reply):
    """The way in that this client came by."""

    via: str = Field(description="cookie or bearer")


class LoginWays(Reply):
    """Which secrets open a session here."""

    token: bool
    password: bool


class Health(Reply):
    """That the server answers, and how one logs in. Nothing else without logging in."""

    status: str
    login: LoginWays


class ServerLimits(Reply):
    """Limits that a client should know before it runs into them."""

    upload_bytes: int
    queued_jobs: int
    body_bytes: int


class ExtraInfo(Reply):
    """An optional part."""

    installed: bool
    install: str | None


class ServerInfo(Reply):
    """What this server is and can do."""

    version: str
    limits: ServerLimits
    input_suffixes: list[str]
    output_suffixes: list[str]
    extras: dict[str, ExtraInfo]
