"""What the roots hold, in SQLite: found by a scan of headers, asked by id."""
