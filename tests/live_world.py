"""What stands in for the live service's surroundings: a made-up key and a token server."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa


@contextlib.contextmanager
def token_server(refuse: str | None = None) -> Iterator[tuple[str, list[str]]]:
    """Serve OAuth tokens that nobody checks; with `refuse`, that error instead.

    Yields the address and the list of the bodies that came.
    """
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            answer = (
                {"access_token": "made-up", "expires_in": 3600, "token_type": "Bearer"}
                if refuse is None
                else {"error": "invalid_grant", "error_description": refuse}
            )
            body = json.dumps(answer).encode()
            self.send_response(200 if refuse is None else 400)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/token", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def made_up_key(path: Path, token_uri: str) -> Path:
    """Write the key file of a service account that does not exist."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    facts = {
        "type": "service_account",
        "project_id": "made-up",
        "private_key_id": "0123456789abcdef",
        "private_key": pem,
        "client_email": "tester@made-up.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": token_uri,
    }
    path.write_text(json.dumps(facts))
    return path
