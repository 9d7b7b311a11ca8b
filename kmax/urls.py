"""Users, passwords and tokens are removed from texts before they are shown or stored.

`without_credentials` removes what the text itself shows to be a secret, from URLs and headers, and depends on
nothing else: digests and stored values use it. `without_secrets` also removes the secrets of this process's
environment, in whatever form they occur: messages, warnings and tracebacks use it.
"""

from __future__ import annotations

import base64
import os
import re
import sys
import threading
import traceback
import urllib.parse
from collections.abc import Iterator, Mapping
from types import TracebackType

HIDDEN = "***"
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<rest>\S+)")
_ENCODED_URL = re.compile(r"(%3A(?:%2F%2F|//))(?:(?!%2F)[^\s/?#&])*(?:%40|@)", re.IGNORECASE)
_HOST = re.compile(r"(?:\[[^\]]*\]|[^:]*)(?::\d*)?")
_NAME = r"[\w.~%+\[\]-]{0,40}"
_PRIVATE_WORDS = (
    r"token|secret|passw|pwd|auth|cred|jwt|hmac|policy|session|ticket|login|account|x-amz|x-goog|hdn"
)
_PRIVATE_ENDINGS = r"key|keyid|key-pair-id|accessid|sig|signature|sas|user|username|code|otp|pin|rlkey"
_QUERY = re.compile(
    rf"(?P<name>[?&;#](?:{_NAME}?(?:{_PRIVATE_WORDS}){_NAME}|{_NAME}?(?:{_PRIVATE_ENDINGS}))=)"
    r"(?P<value>[^\s&;#'\"<>]*[^\s&;#'\"<>:,.)])",
    re.IGNORECASE,
)
_ENCODED_QUERY = re.compile(
    rf"(?P<name>(?:%3F|%26|%3B|%23)[\w.~+-]{{0,40}}?(?:(?:{_PRIVATE_WORDS})[\w.~+-]{{0,40}}|{_PRIVATE_ENDINGS})%3D)"
    r"(?:(?!%26|%3B|%23)[^\s&;#'\"<>])*",
    re.IGNORECASE,
)
_HEADER = re.compile(
    r"(?P<name>\bauthorization['\"]?\s*[:=]\s*['\"]?)(?:(?:basic|bearer|digest|token)\s+)?[^\s'\",}]+",
    re.IGNORECASE,
)
_SECRET_VARIABLE = re.compile(r"passw|token(?!iz)|secret|credential|access_?key|api_?key", re.IGNORECASE)
_VARIABLE_OF_PATH = re.compile(r"(file|path|dir|home)$", re.IGNORECASE)


def without_credentials(text: str) -> str:
    """A text without the users and passwords of its URLs; secret parameters and headers read `***`."""
    text = _ENCODED_URL.sub(r"\1", without_users(text))
    text = _ENCODED_QUERY.sub(rf"\g<name>{HIDDEN}", _QUERY.sub(rf"\g<name>{HIDDEN}", text))
    return _HEADER.sub(rf"\g<name>{HIDDEN}", text)


def without_users(text: str) -> str:
    """A text without the users and passwords of its URLs.

    They end at the last `@` of the host part, or of a path that cannot be one because the password has a raw
    `/`, `?` or `#`.
    """
    return _URL.sub(lambda url: url["scheme"] + url["rest"][_userinfo_end(url["rest"]) :], text)


def has_credentials(text: str) -> bool:
    """Whether `without_credentials` would change the text."""
    return without_credentials(text) != text


def without_secrets(text: str, *urls: str) -> str:
    """A text for people: without the credentials of all URLs, and without the secrets of the environment.

    Args:
        text: of an error, a warning or a traceback.
        urls: what the text is about, such as the tracking URI: its password, and its user in quotes, are
            removed also where they occur outside of the URL.
    """
    text = without_credentials(text)
    secrets = set(_environment_secrets(os.environ))
    for url in urls:
        user = credentials(url)[0]
        secrets |= {*_passwords(url), *_secret_values(url)}
        if user:
            text = re.sub(rf"(['\"]){re.escape(user)}\1", rf"\1{HIDDEN}\1", text)
    forms = {form for secret in secrets if _is_distinct(secret) for form in _forms(secret)}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, HIDDEN)
    return text


def credentials(url: str) -> tuple[str, str]:
    """User and password of a URL, decoded; empty where there are none."""
    user, password = _quoted_credentials(url)
    return urllib.parse.unquote(user), urllib.parse.unquote(password)


def hide_in_tracebacks() -> None:
    """Have Python print tracebacks of uncaught exceptions, in all threads, without secrets."""
    sys.excepthook = _print_traceback
    threading.excepthook = lambda raised: _print_traceback(
        raised.exc_type, raised.exc_value, raised.exc_traceback
    )


def _print_traceback(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
) -> None:
    if kind is not SystemExit:
        sys.stderr.write(without_secrets("".join(traceback.format_exception(kind, error, trace))))


def _quoted_credentials(url: str) -> tuple[str, str]:
    """User and password as the URL spells them."""
    rest = url.partition("://")[2] or url
    user, _, password = rest[: max(0, _userinfo_end(rest) - 1)].partition(":")
    return user, password


def _userinfo_end(rest: str) -> int:
    """Position of the host in a URL without its scheme."""
    host_part = re.split(r"[/?#]", rest, maxsplit=1)[0]
    at = host_part.rfind("@")
    if at >= 0 and ":" in host_part[:at]:
        path = rest.split("?", 1)[0]
        return max(at, *(found.start() + 1 for found in re.finditer(r"[^/]@", path)), 0) + 1
    if at < 0 and _HOST.fullmatch(host_part.rstrip("'\"`),.;:>]}")) is None:
        return rest.rfind("@") + 1
    return at + 1


def _passwords(url: str) -> Iterator[str]:
    """The password of a URL, decoded and as spelled, and what a parser that ends it at a raw `/` reports."""
    user, password = _quoted_credentials(url)
    yield urllib.parse.unquote(password)
    yield password
    if (start := re.split(r"[/?#@]", password, maxsplit=1)[0]) != password:
        yield f"{user}:{start}"
        yield start


def _secret_values(url: str) -> Iterator[str]:
    """The values of secret parameters of a URL."""
    for found in _QUERY.finditer(url):
        yield urllib.parse.unquote(found["value"])


def _environment_secrets(environment: Mapping[str, str]) -> Iterator[str]:
    """Passwords of the URLs in the environment, and variables that are secrets by their names."""
    for name, value in environment.items():
        if "://" in value or name.lower().endswith("_proxy"):
            user, password = credentials(value)
            yield from _passwords(value)
            if user and not password:  # a token in place of a user: https://TOKEN@host
                yield user
            if password:
                yield base64.b64encode(f"{user}:{password}".encode()).decode()
            yield from _secret_values(value)
        elif (
            _SECRET_VARIABLE.search(name) and not _VARIABLE_OF_PATH.search(name) and not os.path.exists(value)
        ):
            yield value


def _is_distinct(secret: str) -> bool:
    """Whether a secret is unlikely to be part of an ordinary word or number of a message."""
    return len(secret) >= 8 or (len(secret) >= 4 and not secret.isalpha() and not secret.isdigit())


def _forms(secret: str) -> set[str]:
    """A secret as it is, percent-encoded, and escaped as in `repr`."""
    quoted = urllib.parse.quote(secret, safe="")
    lower = re.sub(r"%[0-9A-F]{2}", lambda code: code[0].lower(), quoted)
    return {
        secret,
        quoted,
        lower,
        urllib.parse.quote(secret),
        urllib.parse.quote_plus(secret),
        repr(secret)[1:-1],
    }
