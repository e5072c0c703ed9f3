"""Servers of the chat protocol on this machine: `transformers serve` as a process of its own, and a small one
in a thread that answers, or fails, as it is told."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LIMIT = 90
"""Seconds that a process may take to start."""


def held_port():
    """A socket that holds a free port while it is open: whoever asks for any port is given another, whoever
    connects to it is refused, and on Linux a server that asks for this very port gets it."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held


class TransformersServe:
    """`transformers serve`: any checkpoint by its folder. It can be killed, and started again as it was."""

    def __init__(self, log):
        self.held, self.log, self.process = held_port(), log, None
        self.port = self.held.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def start(self):
        if sys.platform != "linux":
            self.held.close()
        code = "from transformers.cli.transformers import main; main()"
        words = ["serve", "--host", "127.0.0.1", "--port", str(self.port), "--device", "cpu"]
        offline = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code, *words], stdout=log, stderr=log, env=offline
            )
        until = time.monotonic() + LIMIT
        while time.monotonic() < until and self.process.poll() is None:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5).close()
                return self
            time.sleep(0.1)
        with open(self.log, errors="replace") as log:
            raise RuntimeError(f"transformers serve did not start:\n{log.read()[-2000:]}")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self):
        self.kill()
        self.held.close()


class SmallServer(ThreadingHTTPServer):
    """answer(body, n) says what request number n is answered, one of the functions below; `bodies` and
    `headers` of the requests for chats are kept."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer, self.bodies, self.headers = answer, [], []
        self.models = ["small", "tall"]
        self.lock, self.ended = threading.Lock(), threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/v1"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        listed = [{"id": name, "object": "model"} for name in self.server.models]
        status(200, {"object": "list", "data": listed})(self)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            n = len(self.server.bodies)
            self.server.bodies.append(body)
            self.server.headers.append(self.headers)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.server.answer(body, n)(self)


# ---------------------------------------------------------------------------------------------- answers


def said(text, read=10, written=2, cached=0, tokens=None, finish="stop", **message):
    """A chat completion. tokens: [(token, log-probability, {token: log-probability})] that were written."""
    told = None
    if tokens is not None:
        told = {
            "content": [
                {
                    "token": t,
                    "logprob": p,
                    "top_logprobs": [{"token": a, "logprob": b} for a, b in top.items()],
                }
                for t, p, top in tokens
            ]
        }
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "logprobs": told}
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    usage["prompt_tokens_details"] = {"cached_tokens": cached}
    return status(200, {"id": "x", "choices": [choice | {"finish_reason": finish}], "usage": usage})


def status(code, body, **headers):
    """Any status with a body: JSON, or bytes as they are."""

    def send(handler):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = "text/html" if content.startswith(b"<") else "application/json"
        handler.send_response(code)
        for name, value in {"Content-Type": kind, "Content-Length": len(content), **headers}.items():
            handler.send_header(name.replace("_", "-"), str(value))
        handler.end_headers()
        handler.wfile.write(content)

    return send


def error(status_code, message, **more):
    """An error as OpenAI words it."""
    headers = more.pop("headers", {})
    return status(
        status_code, {"error": {"message": message, "type": "invalid_request_error", **more}}, **headers
    )


def hang(handler):
    """Never answer."""
    handler.server.ended.wait(60)


def drip(handler):
    """Answer a space at a time, for ever: no single read is late."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.end_headers()
    while not handler.server.ended.wait(0.05):
        handler.wfile.write(b" ")
        handler.wfile.flush()


def cut(handler):
    """Begin an answer and close the connection."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')


def hang_up(handler):
    """Close the connection without a word."""
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True
