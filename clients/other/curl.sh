#!/usr/bin/env bash
# Follows a stream with curl -N, which says with its exit status whether the stream
# has ended or was cut.
url=$1
exec 3>&1
coproc PARSE { exec python3 -c '
import json, sys
kind, data, id = "", [], ""
while line := sys.stdin.readline():
    line = line.rstrip("\n")
    if "\0" in line:  # what was cut is no event
        kind, data, id = "", [], ""
        print(json.dumps({"note": line.partition("\0")[2]}), flush=True)
        continue
    if line == "":
        open(sys.argv[1], "w").write(id)
        if data:
            print(json.dumps({"type": kind, "id": id, "data": "\n".join(data)}), flush=True)
        kind, data = "", []
        continue
    field, _, value = line.partition(":")
    value = value.removeprefix(" ")
    if field == "event": kind = value
    elif field == "data": data.append(value)
    elif field == "id": id = value
' last >&3; }
while true; do
  header=()
  [[ -s last ]] && header=(-H "Last-Event-ID: $(<last)")
  curl -sN -H 'Accept: text/event-stream' "${header[@]}" "$url" >&"${PARSE[1]}"
  printf '\0curl exits with %d\n' $? >&"${PARSE[1]}"
  sleep 0.3
done
