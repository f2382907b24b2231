"""What runs in worker processes. Loads no web framework; numpy only where a job needs it."""
