"""Who may ask: credentials, sessions, and the gate that every request passes."""
