"""A receiver of webhooks that is as bad as receivers are: `python -m bench.chaos.receiver PORT FOLDER SEED`.

Each delivery is checked with the public client of Standard Webhooks and noted on disk before it is answered; some are
answered with an error or too late all the same, so that they come again. The folder holds the secret.
"""

from __future__ import annotations

import json
import random
import sys
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from bench.chaos.journal import Journal

SECRET, JOURNAL = "secret", "received.jsonl"
REFUSED, SLOW = 0.1, 0.03
SLOW_SECONDS = 4.0


def serve(port: int, folder: Path, seed: int) -> None:
    """Serve until killed."""
    draw, journal = random.Random(seed), Journal(folder / JOURNAL)  # noqa: S311  repeatable, not secret

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(self._taken(body))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _taken(self, body: bytes) -> HTTPStatus:
            headers = {name.lower(): value for name, value in self.headers.items()}
            try:
                Webhook((folder / SECRET).read_text()).verify(body, headers)
            except WebhookVerificationError:
                journal.note(id=headers.get("webhook-id"), forged=True)
                return HTTPStatus.BAD_REQUEST
            event = json.loads(body)
            journal.note(id=headers["webhook-id"], type=event["type"], job=event["data"].get("attribution_id"))
            if draw.random() < SLOW:
                time.sleep(SLOW_SECONDS)
            return HTTPStatus.INTERNAL_SERVER_ERROR if draw.random() < REFUSED else HTTPStatus.NO_CONTENT

        def log_message(self, *_: object) -> None:
            """Say nothing: the journal does."""

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    serve(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
