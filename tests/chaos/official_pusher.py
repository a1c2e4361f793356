"""Pushes with the official client's own library, for as long as its input is open.

Run by the official client's Python. Each line of the input is a push as JSON; of each it says `sending`
when the library is called, then `acknowledged` with the item's id, or `refused`. Several are on their
way at once, since one whose answer was lost is sent again only after seconds.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from wandb.sdk.launch.api import LaunchApi


def say(word: str, label: str, detail: str = "") -> None:
    sys.stdout.write(json.dumps([word, label, detail]) + "\n")
    sys.stdout.flush()


def push(api: LaunchApi, order: dict[str, Any]) -> None:
    label = order["label"]
    say("sending", label)
    try:
        answer = api.push_to_run_queue(order["queue"], order["spec"], None, "model-registry")
    except Exception as error:  # whatever it is, the account must name it
        say("refused", label, f"{type(error).__name__}: {error}")
        return
    if answer:
        say("acknowledged", label, answer["runQueueItemId"])
    else:
        say("refused", label, "the library gave nothing back")


def main() -> None:
    api = LaunchApi()
    say("ready", api.viewer.username)
    with ThreadPoolExecutor(max_workers=32) as workers:
        for line in sys.stdin:
            workers.submit(push, api, json.loads(line))


if __name__ == "__main__":
    main()
