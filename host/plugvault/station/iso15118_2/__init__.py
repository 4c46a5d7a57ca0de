"""ISO 15118-2 alone: the states of a session, the responses, and the check of a payment."""
