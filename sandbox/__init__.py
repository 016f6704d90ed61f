"""The local stand-in for everything outside the app; see README.md. Imported by tests, never by the app."""
