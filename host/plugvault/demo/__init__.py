"""`plugvault demo`: a car gets two contracts, in the two ways the industry uses, and charges.

walkthrough.py   the steps, in order
record.py        the record of a run: steps, messages, checks, times
show.py          the record on a terminal
"""
