"""scryptROMix as machine code: the kernel, its memory, and the choice of its lanes."""
