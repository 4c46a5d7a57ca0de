"""Finish the switch to new files that `plugvault flash` began.

`flash` copies each new file beside the old one, as PATH.new, and then writes a plan, one line a
file: "+PATH" takes its place, "-PATH" removes a file. Without the plan the old files are the
board's; with it the new ones. So `boot.py` carries out a plan that a power cut has left, from its
beginning: what is done already is skipped.

The new file lies in the folder of the old one: littlefs renames it in one step there. After a cut
between the two steps of a move to another folder, littlefs hides a file until the next write.
"""

import errno
import os

PLAN = "flash.plan"
NEW = ".new"


def finish(root: str = "") -> bool:
    """Carry out the plan in `root`, which ends in "/"; "": the current folder, which is that of
    `boot.py` ("/", or /flash of an STM32). False if there is none. Raises: OSError."""
    try:
        with open(root + PLAN, encoding="utf-8") as file:
            lines = file.read().split("\n")
    except OSError:
        return False
    for line in lines:
        path = root + line[1:]
        if line[:1] == "+":
            _unless_missing(os.rename, path + NEW, path)
        elif line[:1] == "-":
            _unless_missing(os.remove, path)
    os.remove(root + PLAN)
    return True


def _unless_missing(change, *paths) -> None:
    try:
        change(*paths)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
