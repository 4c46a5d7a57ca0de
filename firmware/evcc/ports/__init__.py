"""The only code that touches a UART, a socket, a clock or flash (the token has `evcc.vault`)."""
