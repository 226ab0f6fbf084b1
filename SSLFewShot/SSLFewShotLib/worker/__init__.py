"""The process that computes for an application, and the client that talks to it. Nothing is imported here."""
