"""The users and groups a package asks for, as OpenWrt's `default_postinst` makes them (base-files, lib/functions.sh).

A control file says `Require-User: USER=UID:GROUP=GID:MORE,GROUPS`, several of them with blanks between; only the user
need be there, and where a number is missing the next free one from 32768 is taken.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count

_FIRST_FREE = 32768


@dataclass(frozen=True)
class Accounts:
    """The texts of /etc/passwd, /etc/group and /etc/shadow."""

    passwd: str
    group: str
    shadow: str

    def with_required(self, field: str) -> Accounts:
        """These with all that a field `Require-User` asks for; what is there already stays as it is."""
        accounts = self
        for word in field.split():
            user, group, more = [*word.split(":"), "", ""][:3]
            accounts = accounts._with(user, group, [name for name in more.split(",") if name])
        return accounts

    def _with(self, user: str, group: str, more: list[str]) -> Accounts:
        (user, uid), (group, gid) = _numbered(user), _numbered(group)
        accounts = self
        if group:
            accounts = accounts._with_group(group, gid)
            gid = _number_of(accounts.group, group)
        if user and not _has(accounts.passwd, user):
            uid = uid or _next_free(accounts.passwd)
            line = f"{user}:x:{uid}:{gid or uid}:{user}:/var/run/{user}:/bin/false"
            accounts = replace(
                accounts,
                passwd=_appended(accounts.passwd, line),
                shadow=_appended(accounts.shadow, f"{user}:x:0:0:99999:7:::"),
            )
        for name, number in [(group, gid), *map(_numbered, more)]:
            if user and name:
                accounts = accounts._with_group(name, number)._with_member(name, user)
        return accounts

    def _with_group(self, name: str, gid: str) -> Accounts:
        if _has(self.group, name):
            return self
        return replace(self, group=_appended(self.group, f"{name}:x:{gid or _next_free(self.group)}:"))

    def _with_member(self, name: str, user: str) -> Accounts:
        lines = []
        for line in self.group.splitlines():
            words = line.split(":")
            if words[0] == name and len(words) == 4 and user not in words[3].split(","):
                words[3] = f"{words[3]},{user}" if words[3] else user
            lines.append(":".join(words))
        return replace(self, group="".join(f"{line}\n" for line in lines))


def _numbered(word: str) -> tuple[str, str]:
    name, _, number = word.partition("=")
    return name, number if number.isdigit() else ""


def _has(text: str, name: str) -> bool:
    return any(line.split(":")[0] == name for line in text.splitlines())


def _number_of(text: str, name: str) -> str:
    return next((words[2] for line in text.splitlines() if (words := line.split(":"))[0] == name and words[2:]), "")


def _next_free(text: str) -> str:
    taken = {words[2] for line in text.splitlines() if (words := line.split(":"))[2:]}
    return next(str(number) for number in count(_FIRST_FREE) if str(number) not in taken)


def _appended(text: str, line: str) -> str:
    return text + ("" if not text or text.endswith("\n") else "\n") + line + "\n"
