# Reads a delivery status notice from standard input as any program would, with Python's own parser, and says in JSON what it found. Notices are
# parsed strictly: whatever the parser finds wrong is listed.
import email, email.policy, json, sys

mail = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.default)
assert mail.get_content_type() == "multipart/report", mail.get_content_type()
parts = list(mail.iter_parts())
groups = [dict(group.items()) for group in parts[1].get_payload()]
original = parts[2] if len(parts) > 2 else None
defects = [str(defect) for part in mail.walk() for defect in part.defects]
if original is None:
    returned = None
elif original.get_content_type() == "message/rfc822":
    returned = original.get_content()["Subject"]
else:
    returned = email.message_from_string(original.get_content(), policy=email.policy.default)["Subject"]
json.dump({
    "report_type": mail.get_param("report-type"),
    "types": [part.get_content_type() for part in parts],
    "from": mail["From"], "to": mail["To"], "subject": mail["Subject"], "auto": mail["Auto-Submitted"],
    "in_reply_to": mail["In-Reply-To"],
    "text": parts[0].get_content(),
    "mail": groups[0], "recipients": groups[1:],
    "returned": returned, "defects": defects,
}, sys.stdout)
