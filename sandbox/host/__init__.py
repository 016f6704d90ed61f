"""A local host for any Azure Functions Python v2 app; see README.md beside this file."""
