"""What ``inspect`` is made of: summary, checks, value scan, document and its printed forms."""
