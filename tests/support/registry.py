"""A registry without images: how it answers is what matters."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Registry:
    """An HTTP server as docker's registry API has it, on a port of its own. Who asks for an image may get a status
    and nothing else (`bare`; `everywhere`: whatever is asked), or no answer at all (`silent`)."""

    def __init__(
        self, user: str | None = None, password: str = "", *, bare: int = 0, everywhere: bool = False, silent: bool = False
    ) -> None:
        self.asked = threading.Event()
        self.over = threading.Event()
        self.wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode() if user else None
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if silent and self.path != "/v2/":
                    registry.asked.set()
                    registry.over.wait()
                    self.close_connection = True
                elif bare and (self.path != "/v2/" or everywhere):
                    self.send_response(bare)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                elif registry.wanted and self.headers.get("Authorization") != registry.wanted:
                    self.answer(401, "UNAUTHORIZED", "authentication required")
                elif self.path == "/v2/":
                    self.answer(200)
                else:
                    self.answer(404, "MANIFEST_UNKNOWN", "manifest unknown")

            do_HEAD = do_GET

            def answer(self, status: int, code: str = "", message: str = "") -> None:
                body = json.dumps({"errors": [{"code": code, "message": message}]} if code else {}).encode()
                self.send_response(status)
                if status == 401:
                    self.send_header("WWW-Authenticate", 'Basic realm="test"')
                self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.over.set()
        self.server.shutdown()
        self.server.server_close()
