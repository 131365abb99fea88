"""Signs mails, or checks their signatures, with dkimpy (Debian: python3-dkim). No name server is asked: the key is in the folder.

usage: dkim_mail.py sign FOLDER     signs every NAME.mail in each way: NAME.WAY.signed
       dkim_mail.py verify FOLDER   prints "NAME good" or "NAME bad" for every NAME.arrived
"""

import base64
import pathlib
import sys

import dkim

HEADERS = [b"from", b"to", b"subject", b"date", b"message-id", b"mime-version", b"content-type"]
WAYS = {
    "relaxed": (b"relaxed", b"relaxed"),
    "simple": (b"simple", b"simple"),
    "mixed": (b"relaxed", b"simple"),
}


def sign(folder):
    key = (folder / "key.pem").read_bytes()
    for mail in folder.glob("*.mail"):
        message = mail.read_bytes()
        for way, canonicalize in WAYS.items():
            field = dkim.sign(message, b"lms", b"contoso.com", key, canonicalize=canonicalize, include_headers=HEADERS)
            (folder / f"{mail.stem}.{way}.signed").write_bytes(field + message)


def verify(folder):
    record = b"v=DKIM1; k=rsa; p=" + base64.b64encode((folder / "public.der").read_bytes())

    def look_up(name, timeout=5):
        return record if name.rstrip(b".") == b"lms._domainkey.contoso.com" else None

    for mail in folder.glob("*.arrived"):
        good = dkim.verify(mail.read_bytes(), dnsfunc=look_up)
        print(mail.stem, "good" if good else "bad")


{"sign": sign, "verify": verify}[sys.argv[1]](pathlib.Path(sys.argv[2]))
