"""The recovery kit: what to store beside a backup, so that Python alone can restore it.

`build` writes the folder, `wheels` fetches the compiled parts and says which fits a machine,
`start` and `launch` are how the program in it begins.
"""
