"""Sends with Python's smtplib: several mails in one session, one of them with text in 8 bits. Argument: the port."""

import smtplib
import sys
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid

port = int(sys.argv[1])
with smtplib.SMTP("127.0.0.1", port, timeout=60) as smtp:
    smtp.login("anyone", "anything")
    for n in range(5):
        message = EmailMessage(policy=SMTP.clone(cte_type="8bit"))
        message["From"] = "LMS <lms@contoso.com>"
        message["To"] = f"learner{n}@example.com"
        message["Subject"] = f"Notes {n}"
        message["Date"] = formatdate()
        message["Message-ID"] = make_msgid(domain="python.example")
        message.set_content("Grüße aus Köln\n.\n..dots\n" * (n + 1), cte="8bit")
        message.add_attachment(bytes(range(256)) * 40, maintype="application", subtype="octet-stream", filename="all.bin")
        smtp.send_message(message)
