"""Patterns for LIKE, of text that people type: every character stands for itself."""

from __future__ import annotations


def beginning(text: str) -> str:
    """What begins with the text."""
    return f"{_literal(text)}%"


def containing(text: str) -> str:
    """What has the text somewhere in it."""
    return f"%{_literal(text)}%"


def _literal(text: str) -> str:
    for special in "\\%_":
        text = text.replace(special, f"\\{special}")
    return text
