"""Runs a program at a terminal and answers each of its questions: at_a_terminal.py QUESTION ANSWER [QUESTION ANSWER]... -- PROGRAM [ARGUMENT]...

Prints what the terminal showed, and ends as the program did.
"""

import os
import pty
import sys

at = sys.argv.index("--")
dialogue, command = sys.argv[1:at], sys.argv[at + 1 :]
child, terminal = pty.fork()
if child == 0:
    os.execv(command[0], command)

shown, asked = b"", 0
while True:
    try:
        octets = os.read(terminal, 4096)
    except OSError:
        break
    if not octets:
        break
    shown += octets
    # A question is answered once it is there; the terminal is silent before that.
    if dialogue and dialogue[0].encode() + b": " in shown[asked:]:
        asked = len(shown)
        os.write(terminal, dialogue[1].encode() + b"\n")
        dialogue = dialogue[2:]
sys.stdout.buffer.write(shown)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
