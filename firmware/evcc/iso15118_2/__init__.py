"""ISO 15118-2 alone: its messages, its charging session, and the installation of a contract."""
