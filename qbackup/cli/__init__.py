"""The command line: arguments, passphrase, reports; nothing here knows a format."""
