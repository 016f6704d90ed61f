"""The way in from the internet: HTTPS before the API, as in Azure. Providers and browsers come by it.

It also stands for the frontend's page that a browser goes back to, `/done`.
"""

import ssl
from typing import override
from urllib.parse import urlencode

import requests

from sandbox.web import Reply, Request, WebServer

HOP_BY_HOP = {"connection", "content-length", "host", "keep-alive", "transfer-encoding"}
"""Headers that are between two neighbours only (RFC 9110 section 7.6.1), and those that are made anew."""

DONE = b"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Zalion</title>
<body style="font-family:sans-serif;margin:3rem"><h1>Back in Zalion</h1>
<p>This page stands for the frontend, which would now go on.</p></body></html>"""


class Front(WebServer):
    """Passes every request on to `api`."""

    def __init__(self, port: int, tls: ssl.SSLContext, api: str) -> None:
        self._api = api
        super().__init__(port, tls)

    @override
    def answer(self, request: Request) -> Reply:
        if request.path == "/done":
            return Reply(200, DONE, {"Content-Type": "text/html; charset=utf-8"})
        url = f"{self._api}{request.path}" + (f"?{urlencode(request.query)}" if request.query else "")
        headers = {k: v for k, v in request.headers.items() if k not in HOP_BY_HOP}
        try:
            answer = requests.request(
                request.method,
                url,
                data=request.body,
                headers=headers,
                allow_redirects=False,
                timeout=60,
            )
        except requests.RequestException:
            return Reply(502, {"title": "The app does not answer."})
        kept = {k.title(): v for k, v in answer.headers.items() if k.lower() not in HOP_BY_HOP}
        return Reply(answer.status_code, answer.content, kept)
