"""The `plugvault` command: one file for each area of commands, without logic of its own."""
