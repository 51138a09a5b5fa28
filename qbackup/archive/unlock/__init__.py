"""The start of a backup: its header, or whatever takes the header's place, and the proof."""
