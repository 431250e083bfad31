"""Follows a stream with Python's standard library, as one would write it: it reads
lines, and comes back after an end and after an error."""
import json, sys, time, urllib.request


def say(**d):
    print(json.dumps(d), flush=True)


url, last = sys.argv[1], None
while True:
    try:
        request = urllib.request.Request(url, headers={"Accept": "text/event-stream"})
        if last is not None:
            request.add_header("Last-Event-ID", last)
        with urllib.request.urlopen(request, timeout=10) as answer:
            kind, data, id = "", [], last
            for line in answer:
                line = line.decode().rstrip("\r\n")
                if line == "":
                    last = id
                    if data:
                        say(type=kind, id=id, data="\n".join(data))
                    kind, data = "", []
                    continue
                field, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if field == "event":
                    kind = value
                elif field == "data":
                    data.append(value)
                elif field == "id":
                    id = value
        say(note="end")
    except OSError as e:
        say(note="error: %r" % e)
    except Exception as e:
        say(note="error: %r" % e)
    time.sleep(0.3)
