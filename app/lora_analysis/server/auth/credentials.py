"""What proves who somebody is: the token, an optional password, one-time tokens, and the sessions they open."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING

from ...errors import MissingExtraError
from ..settings import Settings

if TYPE_CHECKING:
    from pwdlib import PasswordHash

_MOST_SESSIONS = 1_000
_ONE_TIME_SECONDS = 120.0
_WINDOW_SECONDS = 60.0
_MOST_ADDRESSES = 10_000


class Credentials:
    """Compares in constant time and keeps digests of secrets, not secrets, where it can."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._token = settings.token.encode()
        self._password_hash = settings.password_hash
        self._seconds = settings.limits.session_seconds
        self._most_failures = settings.limits.failures_per_minute
        self._clock = clock
        self._sessions: OrderedDict[str, float] = OrderedDict()  # digest of the id -> when last used
        self._one_time: dict[str, float] = {}
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = Lock()

    # -- secrets -----------------------------------------------------------------------------------

    @property
    def has_password(self) -> bool:
        return self._password_hash is not None

    def is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), self._token)

    def make_one_time(self) -> str:
        """A token that opens one session, soon: what the browser started by this program gets in its URL."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._one_time[_digest(token)] = self._clock() + _ONE_TIME_SECONDS
        return token

    def use_one_time(self, given: str) -> bool:
        """Whether it is such a token; from now on it is not."""
        with self._lock:
            expires = self._one_time.pop(_digest(given), None)
        return expires is not None and self._clock() < expires

    def is_password(self, given: str) -> bool:
        """Slow on purpose (argon2). Raises: MissingExtraError."""
        if self._password_hash is None:
            return False
        return _password_tool().verify(given, self._password_hash)

    # -- sessions ----------------------------------------------------------------------------------

    def open_session(self) -> str:
        """A new session's id, for a cookie."""
        session = secrets.token_urlsafe(32)
        with self._lock:
            self._sessions[_digest(session)] = self._clock()
            while len(self._sessions) > _MOST_SESSIONS:
                self._sessions.popitem(last=False)
        return session

    def is_session(self, given: str) -> bool:
        """Whether the session is open; this counts as a use of it."""
        digest, now = _digest(given), self._clock()
        with self._lock:
            used = self._sessions.get(digest)
            if used is None:
                return False
            if now - used > self._seconds:
                del self._sessions[digest]
                return False
            self._sessions[digest] = now
            self._sessions.move_to_end(digest)
            return True

    def close_session(self, given: str) -> None:
        with self._lock:
            self._sessions.pop(_digest(given), None)

    # -- failures ----------------------------------------------------------------------------------

    def begin(self, address: str) -> bool:
        """Count an attempt that takes time, as failed until ``forgive``. Returns: whether it may be made.

        Counted before, not after: of attempts made at the same time none would be refused otherwise.
        """
        with self._lock:
            times = self._recent(address)
            if len(times) >= self._most_failures:
                return False
            times.append(self._clock())
            self._drop_addresses()
            return True

    def forgive(self, address: str) -> None:
        """The newest attempt was right."""
        with self._lock:
            times = self._failures.get(address)
            if times:
                times.pop()

    def is_blocked(self, address: str) -> bool:
        """Whether this address has failed too often within a minute."""
        with self._lock:
            return len(self._recent(address)) >= self._most_failures

    def fail(self, address: str) -> None:
        """Count a wrong token or password."""
        with self._lock:
            self._recent(address).append(self._clock())
            self._drop_addresses()

    def _drop_addresses(self) -> None:
        while len(self._failures) > _MOST_ADDRESSES:
            self._failures.popitem(last=False)

    def _recent(self, address: str) -> deque[float]:
        times = self._failures.setdefault(address, deque(maxlen=self._most_failures))
        while times and self._clock() - times[0] > _WINDOW_SECONDS:
            times.popleft()
        return times


def hash_password(password: str) -> str:
    """The argon2 hash of a password. Raises: MissingExtraError."""
    return _password_tool().hash(password)


def _password_tool() -> PasswordHash:
    try:
        from pwdlib import PasswordHash
        from pwdlib.hashers.argon2 import Argon2Hasher
    except ImportError as error:
        raise MissingExtraError(
            "a password needs argon2; install it with: pip install 'lora-analysis[auth]'", extra="auth"
        ) from error
    return PasswordHash((Argon2Hasher(),))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
