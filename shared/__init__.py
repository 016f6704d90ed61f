"""The domain: which case a mail belongs to, filing it once, sending it once."""
