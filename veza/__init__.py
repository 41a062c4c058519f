"""Veza: an actor-based concurrent runtime for a music creators' platform."""
