"""What mail servers say, made fit to be shown, and what it means: not now, too often, or never."""

import re

from shared.errors import RateLimited, Temporary
from shared.providers import sasl
from shared.providers.base import Credential

_TOO_OFTEN = re.compile(r"(?i)overquota|\brate\b|throttl|too (many|much|fast|frequent)|exceeded|quota")
_TOO_OFTEN_PAUSE = 300.0
_NOT_NOW = re.compile(
    r"(?i)\[(in-?use|login-delay|sys/temp|unavailable|limit|overquota|serverbug)\]|\bin use\b|\bbusy\b"
    r"|\bunavailable\b|temporar(?!\w* (lock|block|disabl|suspend))"
    r"|too many ((?!fail|wrong|invalid|incorrect|bad)[\w-]+ ){0,3}connections"
    r"|(maildrop|mailbox) (is )?(already )?lock"
    r"|(unable to|cannot|can't|could not) lock (the )?(maildrop|mailbox)"
)
_NO = re.compile(r"(?i) *\(failure\)$")
"""Gmail ends each "no" with it, whatever the reason."""

_WRONG = re.compile(r"(?i)fail|wrong|invalid|incorrect|\bbad\b")


def clean(words: str | bytes, credential: Credential | None = None) -> str:
    """Make one printable line of at most 300 characters of what a server said.

    Args:
        words: its words.
        credential: what it was shown; whoever reads the words is not to read that in them.
    """
    text = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
    return (sasl.without(text, credential) if credential else sasl.one_line(text))[:300]


def is_of_library(error: BaseException) -> bool:
    """Whether it was raised inside of a library, or what it stands on, and so is no bug of ours."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return trace is not None and "site-packages" in trace.tb_frame.f_code.co_filename


def too_often(words: str) -> bool:
    """Whether a server's words complain about how much or how often."""
    return _TOO_OFTEN.search(words) is not None


def not_now(words: str) -> bool:
    """Whether a refused sign-in is about the server's state: a code, a lock, a number of connections.

    All else may be a wrong password, whatever it says of trying again: who does is locked out in the end.
    """
    said = _NO.sub("", words)
    return _NOT_NOW.search(said) is not None or (too_often(said) and not _WRONG.search(said))


def later(words: str) -> Temporary:
    """Make the error for a server that says "not now": RateLimited where it means "too often"."""
    said = clean(words)
    if too_often(said):
        return RateLimited(f"The mail server limits us: {said}", retry_after=_TOO_OFTEN_PAUSE)
    return Temporary(f"The mail server asks to try again later: {said}")
