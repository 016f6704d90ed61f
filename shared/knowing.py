"""What an organisation knows about its mail: looked up by Message-ID, thread, address or id.

Every look-up is a point read in the organisation's partition, or reads a range of it: those who take part
in one conversation, or what is known of one thread.
"""

from collections.abc import Collection
from dataclasses import dataclass, field, replace

from shared import identity
from shared.app import App
from shared.comparing import proof_of
from shared.model import (
    MOST_PARTICIPANTS,
    Alias,
    Conversation,
    Delivery,
    Message,
    Participant,
    ThreadHint,
    digest,
)
from shared.storage.base import Stored, every


@dataclass
class Knowledge:
    """What the organisation knows, as seen from one mailbox; the `Lookup` that `decide` asks.

    Conversations and participants are remembered for one look at a mailbox. Outdated memory does no
    harm: who takes part never changes back, and a commit insists on the conversation's version.
    """

    app: App
    org_id: str
    mailbox_id: str
    conversations: dict[str, Stored[Conversation]] = field(default_factory=dict)
    known: set[tuple[str, str]] = field(default_factory=set)

    def forget(self) -> None:
        """Read everything anew from now on."""
        self.conversations.clear()
        self.known.clear()

    def signed(self, message_id: str) -> identity.SignedId | None:
        """See `Lookup.signed`."""
        return identity.read(self.app.keys.signing(self.org_id), self.org_id, message_id)

    def alias(self, message_id: str) -> Alias | None:
        """See `Lookup.alias`."""
        found = self.app.records.find(self.org_id, Alias, digest(message_id))
        return found.value if found else None

    def descendants(self, message_id: str) -> dict[str, Alias]:
        """See `Lookup.descendants`."""
        found = every(self.app.records, self.org_id, Alias, prefix=digest(message_id))
        return {one.value.message_id: replace(one.value, ancestor="") for one in found}

    def conversation(self, conversation_id: str) -> Conversation | None:
        """See `Lookup.conversation`; the version read here is the one the commit insists on."""
        found = self.conversations.get(conversation_id)
        found = found or self.app.records.find(self.org_id, Conversation, conversation_id)
        if found is None:
            return None
        self.conversations[conversation_id] = found
        return found.value

    def hinted(self, thread: str) -> str | None:
        """See `Lookup.hinted`."""
        key = ThreadHint(self.mailbox_id, thread, "").key
        found = self.app.records.find(self.org_id, ThreadHint, key)
        return found.value.conversation_id if found else None

    def knows(self, conversation_id: str, address: str) -> bool:
        """See `Lookup.knows`."""
        if (conversation_id, address) in self.known:
            return True
        key = Participant(conversation_id, address).key
        if self.app.records.find(self.org_id, Participant, key) is None:
            return False
        self.known.add((conversation_id, address))
        return True

    def knows_any(self, conversation_id: str, addresses: Collection[str]) -> bool:
        """See `Lookup.knows_any`."""
        if len(addresses) <= 1:
            return any(self.knows(conversation_id, address) for address in addresses)
        people = every(self.app.records, self.org_id, Participant, prefix=f"{conversation_id}!")
        return any(person.value.address in addresses for person in people)

    def own(self, alias: Alias) -> Alias | None:
        """See `Lookup.own`."""
        message = self.message(alias)
        if message is None:
            return None
        self._meet(message.value)
        fact = proof_of(message.value, self.mailbox_id)
        if fact and fact.variant:
            return self.alias(fact.variant)
        sender = self.mailbox_id == message.value.mailbox_id
        return alias if (sender or fact) and _is_named(message.value, fact, alias, sender=sender) else None

    def message(self, alias: Alias) -> Stored[Message] | None:
        """Return whose id it is, wherever its conversation was moved to; that is remembered."""
        self.conversation(alias.conversation_id)
        return self._seen(alias) or find(self.app, self.org_id, alias.conversation_id, alias.email_id)

    def _meet(self, message: Message) -> None:
        """Remember whose mail a message is: they take part since it was filed or promised.

        Of a mail to very many not all were written down.
        """
        people = [message.sender, *message.to, *message.cc]
        if message.mail_kind == "mail" and len(people) <= MOST_PARTICIPANTS:
            self.known |= {(message.conversation_id, person.address) for person in people if person}

    def _seen(self, alias: Alias) -> Stored[Message] | None:
        """Find a message in the case that its conversation is known to be in; it may have moved on."""
        conversation = self.conversations.get(alias.conversation_id)
        key = f"{conversation.value.case_id}!{alias.email_id}" if conversation else ""
        return self.app.records.find(self.org_id, Message, key) if key else None


def _is_named(message: Message, fact: Delivery | None, alias: Alias, *, sender: bool) -> bool:
    """Whether a mailbox has a message under this very id: colleagues' copies may have taught us others.

    Its sender's has it also by what the server told at the hand-over.
    """
    named = {message.planned_id, fact.known_as if fact else None, message.message_id if sender else None}
    return message.origin == "mailbox" or alias.message_id in named


def find(app: App, org_id: str, conversation_id: str, email_id: str) -> Stored[Message] | None:
    """Find a message wherever its conversation was moved to, also while it is on its way."""
    seen = None
    while (conversation := app.records.find(org_id, Conversation, conversation_id)) not in {None, seen}:
        places = (conversation.value.moved_from, conversation.value.case_id)  # in the order of its way
        for case in filter(None, places):
            found = app.records.find(org_id, Message, f"{case}!{email_id}")
            if found:
                return found
        seen = conversation
    return None


def find_by_id(app: App, org_id: str, message_id: str) -> Stored[Message] | None:
    """Find a message by any Message-ID it is known under."""
    alias = app.records.find(org_id, Alias, digest(message_id))
    return find(app, org_id, alias.value.conversation_id, alias.value.email_id) if alias else None
