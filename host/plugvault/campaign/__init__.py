"""A campaign: a vehicle's module gets every test case, and each answer becomes a verdict.

cases.py        the cases of a folder that `plugvault cases make` wrote
vocabulary.py   the messages between a campaign and a module, JSON lines, version 1
adapters.py     the ways to a module: a command, a stream, HTTP, a Python package
command.py      the adapter for a command for each message; elements.py: the message in parts
station_adapter.py, case_session.py  the vehicle itself, at this computer's charging station
lines.py        the adapter for all that carries lines
function.py     the adapter for a function of Python
run.py          the order of a case: good twin, message, proof, one more good message
verdicts.py     an observation -> pass, weak pass, fail, inconclusive, not applicable
oracle.py       refusals before and after the key: the difference that a sender could see
known.py        failures that are known, each with a reason and an end
result.py       the result as values, and as JSON
explained.py    the explanation of a failure, with the key of a test vehicle
junit.py, html.py  the two other forms of the same result; html_case.py, html_changes.py and
                markup.py are parts of the page
"""
