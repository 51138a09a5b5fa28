"""Protection of a good backup: its front and recovery blocks beside it, and repair with these."""
