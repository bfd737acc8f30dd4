#!/bin/sh
# An event as a message in a chat: {"text": "..."}, as Slack, Mattermost and others take it.
# notify = sh ~/.config/autoresearch/chat.sh https://example.com/services/ID
set -e
body=$(python3 -c '
import json, sys
e = json.load(sys.stdin)
head = "{} of session {}".format(e.pop("event", "?"), e.pop("session", "?"))
e.pop("time", None)
said = ["{}: {}".format(k, v) for k, v in e.items() if v not in (None, "")]
print(json.dumps({"text": ", ".join([head, *said])}))')
exec curl -fsS -m 20 -H 'Content-Type: application/json' --data-raw "$body" "$1"
