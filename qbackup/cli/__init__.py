"""The command line: thin, and without knowledge of any format."""
