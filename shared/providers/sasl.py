"""What is said when signing in (SASL, RFC 4422), and is kept out of the words of a server that repeats it."""

import base64
import re
import string

from shared.providers.base import Bearer, Credential, Password

MOST_READ = 20_000
"""Characters of a server's words that are looked through."""

PIECE = 12
"""So much of a secret is one: who repeats a command may cut it, or take what was too long for two."""

HIDDEN = "…"
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def plain_answer(credential: Password) -> bytes:
    """Make a client's one answer of PLAIN (RFC 4616)."""
    return b"\0".join((b"", credential.username.encode(), credential.password.encode()))


def bearer_answers(mechanism: str, credential: Bearer) -> tuple[bytes, bytes]:
    """Make a client's two answers: the token, and what lets the server go on to say its "no".

    XOAUTH2: https://developers.google.com/workspace/gmail/imap/xoauth2-protocol. OAUTHBEARER: RFC 7628 §3.
    """
    if mechanism == "OAUTHBEARER":
        name = credential.username.replace("=", "=3D").replace(",", "=2C")
        return f"n,a={name},\x01auth=Bearer {credential.token}\x01\x01".encode(), b"\x01"
    return f"user={credential.username}\x01auth=Bearer {credential.token}\x01\x01".encode(), b""


def encoded(answer: bytes) -> str:
    """Write an answer as it goes over the wire."""
    return base64.b64encode(answer).decode()


def one_line(words: str) -> str:
    """Make one printable line of words."""
    return " ".join("".join(c if c.isprintable() else " " for c in words).split())


def without(words: str, credential: Credential) -> str:
    """Return words as one printable line, with `…` for whatever of a credential they repeat.

    Whoever reads them may be another member of the case. Upper and lower case are the same here.
    """
    line = one_line(words[:MOST_READ])
    found, said = set[int](), line.translate(_LOWER)
    for secret in (one_line(secret).translate(_LOWER) for secret in _secrets(credential)):
        size = min(len(secret), PIECE)
        pieces = {secret[at : at + size] for at in range(len(secret) - size + 1)} - {""}
        for at in range(len(said) - size + 1):
            if said[at : at + size] in pieces:
                found.update(range(at, at + size))
    # what is printable has no NUL
    marked = "".join("\0" if at in found else character for at, character in enumerate(line))
    return re.sub("\0+", HIDDEN, marked)


def _secrets(credential: Credential) -> list[str]:
    """List what may be said to a server: a secret itself, quoted (RFC 3501 §4.3), and each SASL answer."""
    if isinstance(credential, Bearer):
        firsts = (bearer_answers(mechanism, credential)[0] for mechanism in ("XOAUTH2", "OAUTHBEARER"))
        return [credential.token, *map(encoded, firsts)]
    answers = credential.username.encode(), credential.password.encode(), plain_answer(credential)
    quoted = re.sub(r'(["\\])', r"\\\1", credential.password)
    return [credential.password, quoted, *map(encoded, answers)]
