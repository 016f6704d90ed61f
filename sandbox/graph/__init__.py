"""Microsoft Graph's mail on the wire, v1.0: what a mail client needs, with the rules that no schema shows.

Mail it sends leaves by SMTP through the sandbox's MX, mail for its users comes in through `deliver`.
https://learn.microsoft.com/graph/api/resources/mail-api-overview
"""

from sandbox.graph.faults import Faults
from sandbox.graph.mailbox import Mailbox
from sandbox.graph.server import Graph
from sandbox.graph.subscriptions import Subscription

__all__ = ["Faults", "Graph", "Mailbox", "Subscription"]
