"""Sends with Python's smtplib over STARTTLS and over implicit TLS, and checks the certificate. Arguments: the two ports, the authority's file."""

import smtplib
import ssl
import sys
from email.message import EmailMessage

starttls, implicit, authority = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
context = ssl.create_default_context(cafile=authority)


def send(smtp):
    smtp.login("anyone", "anything")
    for text in ["over TLS\n.\n", "over TLS\n" * 200_000]:
        message = EmailMessage()
        message["From"] = "LMS <lms@contoso.com>"
        message["To"] = "learner@example.com"
        message["Subject"] = "Notes"
        message.set_content(text)
        smtp.send_message(message)


with smtplib.SMTP("localhost", starttls, timeout=60) as smtp:
    smtp.ehlo()
    assert "auth" not in smtp.esmtp_features, "no password in the clear"
    smtp.starttls(context=context)
    smtp.ehlo()
    assert "starttls" not in smtp.esmtp_features
    send(smtp)

with smtplib.SMTP_SSL("localhost", implicit, timeout=60, context=context) as smtp:
    send(smtp)

try:
    smtplib.SMTP_SSL("localhost", implicit, timeout=60, context=ssl.create_default_context())
except ssl.SSLCertVerificationError:
    pass
else:
    sys.exit("a certificate of an unknown authority was accepted")
