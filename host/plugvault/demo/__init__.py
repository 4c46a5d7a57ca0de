"""`plugvault demo`: a car gets two contracts, over the air and at a station, and charges.

walkthrough.py   the steps, in order
record.py        the record of a run: steps, messages, checks, times
show.py          the record on a terminal
"""
