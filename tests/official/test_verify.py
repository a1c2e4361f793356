"""`wandb verify`: the official client's own look at a server."""

from __future__ import annotations

import re

from support.client import Client


def test_verify_passes_but_for_what_a_plain_server_has_not_and_sweeps_are_refused_with_a_sentence(client: Client) -> None:
    # The server is asked for on http, and keeps files itself: pages of other origins do not read them.
    done = client.wandb("verify", "--host", client.user.base_url, timeout=600)
    checks = dict(re.findall(r"^(Checking [^.]+)\.+(.+)$", done.output, re.MULTILINE))
    good, bad = "\u2705", "\u274c"
    assert checks == {
        "Checking if logged in": good,
        "Checking signed URL upload": good,
        "Checking ability to send large payloads through proxy": good,
        "Checking requests to base url": bad,
        "Checking requests made over signed URLs": bad,
        "Checking CORs configuration of the bucket": bad,
        "Checking wandb package version is up to date": good,
        "Checking logged metrics, saving and downloading a file": good,
        "Checking artifact save and download workflows": good,
        "Checking sweep creation and agent execution": bad,
    }, done.output
    assert "SSL required" in done.output
    assert re.search(r"Failed to create sweep: .*this server keeps no sweeps: push one item per", done.output), done.output
    assert done.code == 1
