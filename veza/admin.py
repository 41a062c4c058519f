"""What the operator does to accounts from outside: the `veza admin` commands, and the first admin.

Each is written to the audit by nobody: whoever has the machine's command line has no account to be named by.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from veza.domain.accounts import Role, User, check_email, check_password
from veza.domain.audit import By
from veza.domain.errors import Conflict, Invalid
from veza.domain.ids import Clock, NewId
from veza.gateways.passwords import Passwords
from veza.store.accounts import Accounts

SYSTEM = By(None)
PASSWORD_BYTES = 15  # 120 bits, twenty characters to type


async def grant(accounts: Accounts, email: str, *, new_id: NewId, now: Clock) -> User:
    """Make the account an admin's. Raises NotFound, and Invalid for what is no address."""
    return await accounts.grant_admin(check_email(email), by=SYSTEM, new_id=new_id, now=now())


async def reset_password(
    accounts: Accounts, passwords: Passwords, email: str, password: str | None = None, *, new_id: NewId, now: Clock
) -> str:
    """Set the account's password, a new one if none is given, and end all its sessions. The password that now holds.

    Raises NotFound, and Invalid for what is no address or a bad password.
    """
    address = check_email(email)
    chosen = new_password() if password is None else check_password(password)
    hashed = await passwords.hash(chosen)
    await accounts.reset_password(address, hashed, by=SYSTEM, new_id=new_id, now=now())
    return chosen


async def ensure_admin(
    accounts: Accounts, passwords: Passwords, email: str, password: str, *, new_id: NewId, now: Clock
) -> User | None:
    """The admin of ADMIN_EMAIL and ADMIN_PASSWORD, if it was made now.

    None if any account has that address: it is left as it is, and is never promoted this way. Raises Invalid, naming
    the setting.
    """
    address, chosen = _setting("ADMIN_EMAIL", check_email, email), _setting("ADMIN_PASSWORD", check_password, password)
    if await accounts.credentials(address) is not None:
        return None
    hashed = await passwords.hash(chosen)
    at = now()
    for username in ("admin", f"admin-{secrets.token_hex(4)}"):
        admin = User(new_id(), username, address, Role.ADMIN, created_at=at, updated_at=at)
        try:
            return await accounts.add_admin(admin, hashed, by=SYSTEM, new_id=new_id)
        except Conflict as taken:
            if taken.field == "email":  # another process, started at the same time, was first
                return None
    raise Conflict("No username is free for the first admin.")


def new_password() -> str:
    """A password nobody can guess, of characters that need no quoting in a shell."""
    while True:
        password = secrets.token_urlsafe(PASSWORD_BYTES)
        try:
            return check_password(password)
        except Invalid:  # only letters, which happens
            continue


def _setting(name: str, check: Callable[[str], str], value: str) -> str:
    try:
        return check(value)
    except Invalid as refusal:
        raise Invalid(f"{name}: {refusal}") from None
