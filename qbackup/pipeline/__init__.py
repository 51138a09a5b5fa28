"""Derivation, reading and decryption ahead of need. The only package with threads.

`schedule` decides which derivation may start, without threads or a clock. `key_pool` derives
keys, and `remote` derives them on other machines. `session` turns the chunks of many files into
verified plaintext, `parallel` unpacks several files side by side, `background` hashes and writes
the unpacked data, and `threads` starts all threads. An archive uses them through `Pipeline`.

All threads are daemons and nothing joins them: a derivation is one long call into C, and
neither Ctrl-C nor `close` may wait for it. Its memory stays charged until it has ended.
Only `background` is waited for, until it has written one piece of data at most.
"""
