"""Keys and ciphers: scrypt, OpenSSL's old formats, and the block ciphers under them."""
