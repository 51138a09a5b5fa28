"""Derivation, reading and decryption ahead of need. The only package with threads.

`schedule` decides which derivation may start, without threads or a clock; `key_pool` derives
keys, `remote` has other machines help; `session` turns the chunks of many files into verified
plaintext, `parallel` unpacks several of them side by side, `background` hashes and writes what was
unpacked, `threads` starts the threads of all; `Pipeline` is what an archive has of them.

All threads are daemons and nothing joins them: a derivation is one long call into C, and
neither Ctrl-C nor `close` may wait for it. What it took stays charged until it has ended.
Only `background` is waited for, for the one piece of data that is being written.
"""
