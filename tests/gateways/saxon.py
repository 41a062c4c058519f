"""The XSLT server that factur-x's checker of EN 16931's rules asks, over saxonche, in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from email.parser import BytesParser
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import saxonche


@cache  # made by the serving thread, since Saxon's isolate belongs to the thread that made it
def processor() -> Any:
    return saxonche.PySaxonProcessor(license=False)


@cache
def compiled(stylesheet: str) -> Any:
    return processor().new_xslt30_processor().compile_stylesheet(stylesheet_text=stylesheet)


def content(part: Message) -> str:
    raw = part.get_payload(decode=True)
    return raw.decode() if isinstance(raw, bytes) else ""


class Transforming(BaseHTTPRequestHandler):
    """Answers a form of two files, ``xml`` and ``xsl``, with what the one makes of the other."""

    def do_POST(self) -> None:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        form = BytesParser().parsebytes(head + self.rfile.read(int(self.headers["Content-Length"])))
        files = {part.get_param("name", header="content-disposition"): content(part) for part in form.walk()}
        node = processor().parse_xml(xml_text=files["xml"])
        answer = compiled(files["xsl"]).transform_to_string(xdm_node=node).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/xml; charset=utf-8")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@contextmanager
def saxon_server() -> Iterator[str]:
    """The URL of a running one."""
    with HTTPServer(("127.0.0.1", 0), Transforming) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/transform"
        finally:
            server.shutdown()
            thread.join()
