"""Backups with one fault each, and what must come of them; `docs/testkit.md` describes them.

`vector` is the format of their files, `vectors/` holds them. The rest makes them with the real
tools: `python -m tests.testkit.generate [NAME…]`, from the project's folder.
"""
