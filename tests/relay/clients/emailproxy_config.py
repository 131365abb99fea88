"""Lets the real email-oauth2-proxy sign accounts in and write its configuration, tokens and all.

    emailproxy_config.py CONFIG REFRESH_TOKEN MAILBOX PASSWORD [MAILBOX PASSWORD]...

Only two things are not the real ones: the person in front of the browser, and the provider, which is a token endpoint in here that hands out
REFRESH_TOKEN. Everything that is written is the program's own doing.
"""

import http.server
import json
import sys
import threading

import emailproxy


class Provider(http.server.BaseHTTPRequestHandler):
    """Answers every request for tokens with the same ones."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        answer = {"token_type": "Bearer", "expires_in": 3600, "access_token": "access-" + "x" * 1500}
        answer["refresh_token"] = refresh_token
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


path, refresh_token, *people = sys.argv[1:]
provider = http.server.HTTPServer(("127.0.0.1", 0), Provider)
threading.Thread(target=provider.serve_forever, daemon=True).start()

emailproxy.CONFIG_FILE_PATH = path
emailproxy.CACHE_STORE = path
emailproxy.Log.initialise()
helper = emailproxy.OAuth2Helper
helper.get_oauth2_authorisation_code = staticmethod(lambda *_, **__: (True, "code"))
# The tokens come from here, but the file keeps the address that stands in it.
asked = helper.get_oauth2_authorisation_tokens
here = "http://127.0.0.1:%d/token" % provider.server_port
helper.get_oauth2_authorisation_tokens = staticmethod(lambda _, *rest, **more: asked(here, *rest, **more))

for mailbox, password in zip(people[::2], people[1::2]):
    signed_in, said = helper.get_oauth2_credentials(mailbox, password)
    if not signed_in:
        sys.exit(said)
