"""A proxy in front of a server that can hold a request back, as a network or a stopped machine does."""

from __future__ import annotations

import contextlib
import re
import socket
import threading

LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)


class HoldingProxy:
    """Passes HTTP on. Once armed with a word, it keeps every request that has it until it is told to let go."""

    def __init__(self, server_port: int) -> None:
        self.server_port = server_port
        self.word: bytes | None = None
        # A request is being kept.
        self.held = threading.Event()
        self.let_go = threading.Event()
        # What was kept has an answer.
        self.answered = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(self, word: str) -> None:
        self.word = word.encode()

    def stop(self) -> None:
        self.let_go.set()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._requests, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket, keeps: threading.Event) -> socket.socket:
        server = socket.create_connection(("127.0.0.1", self.server_port))
        threading.Thread(target=self._answers, args=(server, client, keeps), daemon=True).start()
        return server

    def _requests(self, client: socket.socket) -> None:
        keeps = threading.Event()
        server = self._connect(client, keeps)
        waiting = b""
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                waiting += data
                while size := request_size(waiting):
                    request, waiting = waiting[:size], waiting[size:]
                    kept = self.word and self.word in request
                    if kept:
                        keeps.set()
                        self.held.set()
                        self.let_go.wait()
                        # The server has long closed a connection on which nothing came.
                        server = self._connect(client, keeps)
                    server.sendall(request)
                    if kept:
                        # Who sent it may have given it up; it arrives all the same.
                        self.answered.wait(30)
        for end in (server, client):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_WR)

    def _answers(self, server: socket.socket, client: socket.socket, keeps: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if keeps.is_set():
                    self.answered.set()
                client.sendall(data)
        if not keeps.is_set():
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_WR)


def request_size(data: bytes) -> int:
    """How much of what came is one whole request; all of it where the length is not said; 0: not yet."""
    head, found, _ = data.partition(b"\r\n\r\n")
    if not found:
        return 0
    if b"transfer-encoding" in head.lower():
        return len(data)
    length = LENGTH.search(head + b"\r\n")
    size = len(head) + 4 + (int(length[1]) if length else 0)
    return size if len(data) >= size else 0
