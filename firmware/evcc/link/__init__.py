"""The link between board and host: frames, channels, V2GTP. All sans-I/O: bytes in, bytes out."""
