"""The receiver of the webhooks' guide does what the guide says, run as it stands there."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from app.db import transaction
from app.models import DEFAULT_TENANT, WebhookDelivery
from app.webhooks import sending, service
from app.webhooks.post import Post
from app.webhooks.service import Wish
from tests.app.world import rows
from tests.processes import until

GUIDE = Path(__file__).parents[2] / "docs" / "webhooks.md"


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _deliver(database, settings):
    post = Post(10.0, allow_private=True)
    with ThreadPoolExecutor(2) as pool:
        until(lambda: sending.once(database, settings, post, pool) == 0, 30.0)


def test_the_receiver_takes_what_is_signed_once_and_refuses_the_rest(database, database_settings, tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    port = _free_port()
    with transaction(database) as session:
        made, secret = service.create(session, tenant_id=DEFAULT_TENANT, wish=Wish(f"http://127.0.0.1:{port}/"))
    environment = os.environ | {"ROOTNOTE_WEBHOOK_SECRET": secret, "PORT": str(port)}
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=said)
    try:
        until(lambda: _answers(port), 30.0)
        with transaction(database) as session:
            event = service.test(session, tenant_id=DEFAULT_TENANT, endpoint_id=made.id)
        _deliver(database, database_settings)
        with transaction(database) as session:
            service.replay(session, tenant_id=DEFAULT_TENANT, endpoint_id=made.id, event_id=event)
        _deliver(database, database_settings)
        forged = Post(10.0, allow_private=True).send(f"http://127.0.0.1:{port}/", {"webhook-id": "x"}, b"{}")
    finally:
        process.terminate()
        process.wait(10)
    assert (tmp_path / "said").read_text().count("endpoint.test") == 1
    assert forged.status == 401
    assert rows(database, WebhookDelivery) == 1
