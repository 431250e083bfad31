"""Live scores for those who have signed in, with nothing but Python. run.sh starts it."""

import http.cookies
import json
import os
import re
import secrets
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOST, PORT = os.environ.get("APP", "localhost:3000").rsplit(":", 1)
ADMIN = "http://" + os.environ.get("ADMIN", "localhost:2019")  # Caddy's, where the application publishes
ROOM = re.compile(r"/((?:football|cricket)/[\w-]+)", re.ASCII)  # no commas
users = {}  # by session


def emit(to, event, data):
    url = f"{ADMIN}/evstream/{to}?event={urllib.parse.quote(event)}"
    urllib.request.urlopen(urllib.request.Request(url, data, method="POST")).close()


class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def user(self):
        session = http.cookies.SimpleCookie(self.headers["Cookie"]).get("session")
        return session and users.get(session.value)

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if status != 204:
            self.send_header("Content-Length", len(body))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        user, room = self.user(), ROOM.fullmatch(self.path)
        if not user or not room:
            return self.answer(404 if user else 401)
        hello = f"event: welcome\ndata: {json.dumps({'user': user})}\n\n"
        self.answer(200, hello.encode(), Evstream_Channels=room[1], Evstream_User=urllib.parse.quote(user))

    def do_POST(self):
        url = urllib.parse.urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if url.path == "/login":
            session = secrets.token_urlsafe()
            users[session] = urllib.parse.parse_qs(body.decode())["user"][0]
            return self.answer(204, Set_Cookie=f"session={session}; HttpOnly; SameSite=Strict")
        user, room = self.user(), ROOM.fullmatch(url.path)
        if not user or not room:
            return self.answer(404 if user else 401)
        emit(room[1].removesuffix("all"), urllib.parse.parse_qs(url.query)["event"][0], body)
        self.answer(204)

    def log_message(self, *_):
        pass


ThreadingHTTPServer((HOST, int(PORT)), App).serve_forever()
