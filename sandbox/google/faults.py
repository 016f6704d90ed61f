"""What may go wrong at Google, on a switch. Names that end in s and hold an address count its next calls."""

from collections import Counter
from dataclasses import dataclass, field

from sandbox.courier import Mishaps


@dataclass
class Faults(Mishaps):
    """All off at first; `clear` switches them off again. `lose` to `hold` are about pushes.

    Attributes:
        throttled: address -> so many of its next calls are refused; `throttle` says as what: "burst" and
            "sending" (429), "minute", "user" and "day" (403).
        storm: so many of the next calls, whoever makes them, are answered with `storm_status`; with
            `storm_page` it is something on the way that answers, with a page.
        retry_after: seconds of the Retry-After header that goes with 429 and 503; none where it is 0.
        lost_answers: so many of the next sends are carried out, and the connection then closed.
        lost_before: the connection is closed, and nothing was done.
        rewrite_message_id: a sent mail gets an id of Gmail's own.
        recomposed: a draft that is sent in Gmail has lost Message-ID, References and In-Reply-To.
        late_history: so many of the next history.list name the newest record and do not show it yet.
        deaf_histories: a startHistoryId above the mailbox's own is answered with an empty list, not with 404.
        hollow_pages: so many of the next lists begin with an empty page that names a next one (lieer#24).
        late_search: so many of the next lists with `q` do not find anything of the last minute.
        bad_mails: ids of messages that nobody gets: `bad_status` is all there is to them; where `bad_formats`
            names some, only in these.
        bad_threads: the same for threads that are asked for.
        bad_sends: so many of the next mails that are sent are refused with `bad_status`.
        expired_histories: address -> so many of its next history.list are answered with 404.
        dead_watches: addresses whose watch is accepted and never tells anything.
        watch_seconds: how long a watch lasts.
        push_seconds: a user's pushes within so many seconds of the last one are dropped.
        partial_consent: scopes that the user unticks when `auto_sign_in` answers.
        no_refresh_token: the code is redeemed without one, as for a repeated consent.
        late_delegation: so many token requests do not see a new domain-wide delegation yet.
        alias_subjects: a service account may act for an alias as for the mailbox that has it.
        forged: domains whose mail fails DMARC.
    """

    throttled: Counter[str] = field(default_factory=Counter)
    throttle: str = "burst"
    storm: int = 0
    storm_status: int = 503
    storm_page: bool = False
    retry_after: int = 0
    lost_answers: int = 0
    lost_before: int = 0
    rewrite_message_id: bool = False
    recomposed: bool = False
    late_history: int = 0
    deaf_histories: bool = False
    hollow_pages: int = 0
    late_search: int = 0
    bad_mails: set[str] = field(default_factory=set)
    bad_formats: set[str] = field(default_factory=set)
    bad_threads: set[str] = field(default_factory=set)
    bad_sends: int = 0
    bad_status: int = 500
    expired_histories: Counter[str] = field(default_factory=Counter)
    dead_watches: set[str] = field(default_factory=set)
    watch_seconds: int = 7 * 24 * 3600
    push_seconds: float = 1.0
    partial_consent: set[str] = field(default_factory=set)
    no_refresh_token: bool = False
    late_delegation: int = 0
    alias_subjects: bool = False
    forged: set[str] = field(default_factory=set)
