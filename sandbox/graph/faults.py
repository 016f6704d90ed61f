"""What may go wrong at Graph, each on a switch. Notifications have their own (`subscriptions.Faults`)."""

from collections import Counter
from dataclasses import dataclass, field
from threading import Event


@dataclass
class Faults:
    """The switches.

    Attributes:
        rewrite_message_id, rewrite_date, drop_x_headers: what Exchange does to mail it is handed.
        late_sent_copy: the copy in Sent Items appears only with `release_sent_copies`.
        silent_shared: a user may subscribe to somebody else's mailbox, and is never told anything.
        forged: domains whose mail fails authentication.
        throttled: address -> how many of its next requests get 429.
        unavailable: likewise 503.
        retry_after: seconds that both ask for; no word of it where it is 0.
        lost_answers: so many of the next sends are carried out, and the connection then closed.
        late_answers: so many of the next sends are carried out, and answered with 504.
        sendless: addresses that Exchange lets nobody send from through Graph: 403, whatever the token says.
        lost_before: so many of the next sends break before anything is done.
        expired_deltas: what the next delta calls are refused with: "410", or the code of a 400.
        largest: octets of a mail that the organisation's administrator allows.
        subscriptions: active ones that a mailbox may have, of all apps together.
        heavy_page: a page of more mails than this, with headers or bodies, ends in 504.
        gate: requests that were let in wait for it, and are then served.
        concurrency: so many requests of one mailbox at once are served.
    """

    rewrite_message_id: bool = False
    rewrite_date: bool = False
    drop_x_headers: bool = False
    late_sent_copy: bool = False
    silent_shared: bool = True
    forged: set[str] = field(default_factory=set)
    throttled: Counter[str] = field(default_factory=Counter)
    unavailable: Counter[str] = field(default_factory=Counter)
    retry_after: int = 1
    lost_answers: int = 0
    late_answers: int = 0
    lost_before: int = 0
    sendless: set[str] = field(default_factory=set)
    largest: int = 35 * 1024 * 1024
    expired_deltas: list[str] = field(default_factory=list)
    subscriptions: int = 1000
    heavy_page: int = 1000
    gate: Event | None = None
    concurrency: int = 4

    def clear(self) -> None:
        """Switch everything off."""
        self.__init__()  # type: ignore[misc]
