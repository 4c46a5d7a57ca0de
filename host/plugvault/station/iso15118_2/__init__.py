"""The station's half of an ISO 15118-2 session: states, answers, and the check of a payment."""
