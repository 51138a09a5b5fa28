"""The recovery kit: a folder to keep beside a backup, with which Python alone restores it.

`build` writes the folder, `wheels` fetches the compiled parts and finds the one that fits a
machine, `start` and `launch` start the program in the kit.
"""
