"""The story `plugvault demo` tells: a car gets two contracts, in the two ways the industry uses.

tale.py     the story itself: one function a chapter, in order
record.py   what is kept of it: steps, what moved, what was checked, how long it took
show.py     the same for a person, live on a terminal
"""
