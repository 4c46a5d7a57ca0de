"""A contract in the form of ISO 15118-2: its sealed key, its signed message, its XML form."""
