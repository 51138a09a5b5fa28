"""The command line: arguments, passphrase, reports. It knows no format."""
