#!/bin/sh
# An event as a notification on the desktop, by notify-send (Linux) or osascript (macOS).
# notify = sh ~/.config/autoresearch/desktop.sh
set -e
text=$(python3 -c '
import json, sys
e = json.load(sys.stdin)
hidden = "event", "session", "time"
print(", ".join("{}: {}".format(k, v) for k, v in e.items() if k not in hidden and v is not None))
print("autoresearch {}: {}".format(e.get("session"), e.get("event")))')
title=$(printf '%s\n' "$text" | tail -n 1)
text=$(printf '%s\n' "$text" | sed '$d')
if command -v notify-send >/dev/null; then exec notify-send -- "$title" "$text"; fi
# as arguments, so that no text of an agent is read as AppleScript
exec osascript -e 'on run argv' \
    -e 'display notification (item 2 of argv) with title (item 1 of argv)' \
    -e 'end run' -- "$title" "$text"
