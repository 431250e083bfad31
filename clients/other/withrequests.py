"""Follows a stream with requests, by lines or by pieces of any size."""
import json, sys, time

import requests


def say(**d):
    print(json.dumps(d), flush=True)


url, how, last = sys.argv[1], sys.argv[2], None


def lines(answer):
    if how == "lines":
        for line in answer.iter_lines(decode_unicode=True):
            yield line
        return
    rest = b""
    for piece in answer.iter_content(chunk_size=None):
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield line.decode()


while True:
    try:
        headers = {"Accept": "text/event-stream"}
        if last is not None:
            headers["Last-Event-ID"] = last
        with requests.get(url, headers=headers, stream=True, timeout=10) as answer:
            answer.encoding = "utf-8"
            kind, data, id = "", [], last
            for line in lines(answer):
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
    except (requests.RequestException, OSError) as e:
        say(note="error: %r" % e)
    time.sleep(0.3)
