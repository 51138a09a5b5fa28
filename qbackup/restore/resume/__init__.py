"""A restore that is run again: the journal, and the files that it proves to be whole."""
