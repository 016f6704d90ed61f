"""A short mail from a mailbox to itself: what leaves and comes back shows that both ways are open."""

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from shared import identity, mime, relaying
from shared.app import App
from shared.errors import RateLimited, Temporary
from shared.identity import SignedId
from shared.model import Address, Mailbox
from shared.providers.base import NOBODY, Receiver, given
from shared.relaying import Counting

ROUND_TRIP_SECONDS = 20
"""How long the doctor waits for its own mail: within the 230 s that Azure gives an HTTP answer."""

LONGEST_PAUSE = 60
"""And beyond that, seconds that it leaves a server alone that asks for it: some take one sign-in a minute."""

SELDOM = 5
"""Seconds between two tries at most; the first ones come sooner."""


@dataclass
class RoundTrip:
    """A short mail from the mailbox to itself, and its copy in Sent."""

    app: App
    org_id: str
    mailbox: Mailbox
    message_id: str = ""
    raw: bytes = b""
    arrived: bytes = b""
    copied: bool = False

    def there_and_back(self) -> None:
        """Send it and wait until it can be read. Raises AgainstRules where it may not leave."""
        raw, address = self._compose(), self.mailbox.address
        with self.app.sending(self.org_id, self.mailbox) as sender:
            receipt = sender.send(raw, address, [address], self._let_go)
            self.raw = raw
            self.message_id = receipt.message_id or self.message_id
            self.copied = sender.files_copy
        with self.app.receiving(self.org_id, self.mailbox) as receiver:
            _await(lambda: self._arrived(receiver), LONGEST_PAUSE)

    def _let_go(self, _refused: Mapping[str, str] = NOBODY, /) -> None:
        """See `Commit`. Nobody was promised this mail: all there is to write down is that one more leaves."""

        def commit(counting: Counting) -> None:
            if counting.writes:
                self.app.records.commit(self.org_id, *counting.writes)

        count = partial(relaying.count_test, self.app, self.org_id, self.mailbox)
        relaying.in_turn(self.app, self.org_id, count(), count, commit)

    def _arrived(self, receiver: Receiver) -> bool:
        """Whether it can be read yet; where a copy lies in Sent, too, what came is the one that says so."""
        receiver.close()  # a new session shows what came, and with POP3 no other does
        looked = given(receiver.look([self.message_id]))
        found = [one for one in looked if one.message_id == self.message_id]
        came = next((one for one in found if not one.is_sent), next(iter(found), None))
        if came:
            self.arrived = receiver.fetch(came.ref)
        return came is not None

    def copy(self) -> None:
        """File its copy as a real mail's would be, or wait for the provider's, and find it in Sent."""
        if not self.raw:
            raise Temporary("There was no mail to file a copy of.", fix="Mend the checks above first.")
        with self.app.sent_folder(self.org_id, self.mailbox) as sent:
            if not self.copied:
                sent.keep_sent(self.raw, self.app.clock())
            _await(lambda: sent.find_sent(self.message_id) is not None)

    def _compose(self) -> bytes:
        now = self.app.clock()
        signed = SignedId("0" * 16, f"{int(now.timestamp() * 1000):013d}-{secrets.token_hex(6)}")
        key, domain = self.app.keys.signing(self.org_id), self.mailbox.address.rpartition("@")[2]
        self.message_id = identity.mint(key, self.org_id, signed, domain)
        me = Address(self.mailbox.address, self.mailbox.name)
        return mime.compose(
            mime.Outgoing(
                message_id=self.message_id,
                date=now.replace(microsecond=0),
                sender=me,
                to=(me,),
                cc=(),
                subject="Zalion mailbox test",
                text="This mail tests the connection of your mailbox to Zalion. You can delete it.",
                html=None,
                in_reply_to=None,
                references=(),
                attachments=(),
            )
        )


def _await(there: Callable[[], bool], longest_pause: float = 0) -> None:
    """Wait for a mail that was sent. Raises Temporary where it does not show."""
    if not in_time(there, longest_pause):
        raise Temporary(
            f"The mail was sent but did not show within {ROUND_TRIP_SECONDS} seconds.",
            fix="Look into Junk, the filters and the Sent folder of the mailbox, then test again.",
        )


def in_time(there: Callable[[], bool], longest_pause: float = 0, seconds: float = ROUND_TRIP_SECONDS) -> bool:
    """Try for so long until it is there; a server that asks for pauses, `longest_pause` in all, gets them.

    Returns whether it came. Raises RateLimited where the last that the server said is that it wants a pause.
    """
    begun, asked, pause = time.monotonic(), 0.0, 1.0
    said: RateLimited | None = None
    while time.monotonic() < begun + seconds + asked:
        try:
            if there():
                return True
        except RateLimited as error:
            said, wait = error, max(error.retry_after, pause)
            asked += wait
            if asked > longest_pause:
                raise
            time.sleep(wait)
        else:
            said = None
            time.sleep(pause)
            pause = min(2 * pause, SELDOM)
    if said:
        raise said
    return False
