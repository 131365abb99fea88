"""A small OAuth server: a token endpoint for refresh tokens (RFC 6749) and introspection of access tokens (RFC 7662).

Prints its port, then obeys the lines on its standard input, one answer each, until that ends:
  sign-in     a new refresh token for the mailbox
  expire      no access token issued so far is active any more
  block       no access token of the sign-ins so far is ever active, though they are still issued
  life N      access tokens issued from now on live for N seconds
  refreshes   how many access tokens were issued
"""

import json
import secrets
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

MAILBOX = sys.argv[1]


class Ledger:
    def __init__(self):
        self.lock = threading.Lock()
        self.life = 3600
        self.sign_ins = 0
        self.blocked = 0
        self.refresh = {}  # refresh token -> number of its sign-in
        self.access = {}  # access token -> (number of its sign-in, when it ends)
        self.issued = 0

    def sign_in(self):
        with self.lock:
            self.sign_ins += 1
            return self._new_refresh(self.sign_ins)

    def _new_refresh(self, sign_in):
        token = secrets.token_urlsafe(32)
        self.refresh[token] = sign_in
        return token

    def exchange(self, token):
        """Every refresh token works once, as with servers that rotate them."""
        with self.lock:
            sign_in = self.refresh.pop(token, None)
            if sign_in is None:
                return None
            access = secrets.token_urlsafe(1500)  # as long as Microsoft's
            self.access[access] = (sign_in, time.time() + self.life)
            self.issued += 1
            return {
                "token_type": "Bearer",
                "access_token": access,
                "expires_in": self.life,
                "refresh_token": self._new_refresh(sign_in),
            }

    def introspect(self, token):
        with self.lock:
            sign_in, end = self.access.get(token, (0, 0))
            if sign_in <= self.blocked or end <= time.time():
                return {"active": False}
            return {"active": True, "username": MAILBOX, "exp": int(end), "token_type": "Bearer"}

    def obey(self, order, *arguments):
        if order == "sign-in":
            return self.sign_in()
        with self.lock:
            if order == "expire":
                self.access.clear()
            elif order == "block":
                self.blocked = self.sign_ins
            elif order == "life":
                self.life = int(arguments[0])
            elif order == "refreshes":
                return self.issued
            else:
                raise ValueError(order)
            return "done"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        form = parse_qs(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())
        field = lambda name: form.get(name, [""])[0]
        if self.path == "/token":
            tokens = ledger.exchange(field("refresh_token")) if field("grant_type") == "refresh_token" else None
            self.answer(200, tokens) if tokens else self.answer(400, {"error": "invalid_grant"})
        elif self.path == "/introspect":
            self.answer(200, ledger.introspect(field("token")))
        else:
            self.answer(404, {"error": "not_found"})

    def answer(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


ledger = Ledger()
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port, flush=True)
for line in sys.stdin:
    print(ledger.obey(*line.split()), flush=True)
