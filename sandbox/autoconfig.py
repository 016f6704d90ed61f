"""Where the sandbox's domains publish their mail settings in Thunderbird's format, over HTTPS."""

import ssl
from xml.sax.saxutils import escape

from sandbox.web import Reply, Request, WebServer

_SERVER = """<{tag} type="{type}"><hostname>{host}</hostname><port>{port}</port>
<socketType>{socket}</socketType><username>%EMAILADDRESS%</username>
<authentication>password-cleartext</authentication></{tag}>"""


class Autoconfig(WebServer):
    """One server for all domains: `/<domain>/mail/config-v1.1.xml`.

    Attributes:
        files: domain -> its file, or a whole answer for faults.
    """

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.files: dict[str, bytes | Reply] = {}
        super().__init__(port, tls)

    @property
    def pattern(self) -> str:
        """What the app's setting AUTOCONFIG_URLS says."""
        return f"{self.url}/{{domain}}/mail/config-v1.1.xml"

    def publish(self, domain: str, *servers: tuple[str, str, int, str]) -> None:
        """Publish (type, host, port, SSL or STARTTLS or plain) of each server."""
        listed = "".join(
            _SERVER.format(
                tag="outgoingServer" if kind == "smtp" else "incomingServer",
                type=kind,
                host=escape(host),
                port=port,
                socket=socket,
            )
            for kind, host, port, socket in servers
        )
        text = f"""<?xml version="1.0"?><clientConfig version="1.1"><emailProvider id="{domain}">
<domain>{domain}</domain>{listed}</emailProvider></clientConfig>"""
        self.files[domain] = text.encode()

    def answer(self, request: Request) -> Reply:
        """Answer with the domain's file, if it has one."""
        found = self.files.get(request.path.split("/")[1])
        if isinstance(found, Reply):
            return found
        return Reply(404) if found is None else Reply(200, found, {"Content-Type": "text/xml"})
