"""The `plugvault` command: one file per area of commands, each thin over the package it shows."""
