"""Reads settings from TOML and the environment into typed records, and says everything that is wrong at once.

A record is a frozen struct whose fields are sections; a section is a frozen struct whose fields are single values or
tuples of text. `BLOCKYARD_SECTION__KEY=value` in the environment overrides `key` of `[section]` in the file.
Invariant: a problem names where the value stands (file or variable), the dotted key, what was found, what is allowed.
"""

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from msgspec import inspect as types

PREFIX: Final = "BLOCKYARD_"
SEPARATOR: Final = "__"


class SettingsError(ValueError):
    """The settings cannot be used. Its text is one line per problem."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class Broken(NamedTuple):
    """A value that is right alone and wrong beside another."""

    key: str
    found: object
    allowed: str


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One table of the file."""

    def broken(self) -> Iterator[Broken]:
        """Yield the relations between this section's values that do not hold; keys without the section's name."""
        yield from ()


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All settings of one process."""

    def broken(self) -> Iterator[Broken]:
        """Yield the relations between sections that do not hold; keys with the section's name."""
        yield from ()


R = TypeVar("R", bound=Record)


@dataclass
class Reading:
    """Values and where each stands, on their way into a record, and the problems met."""

    known: Mapping[str, type[Section]]
    values: dict[str, dict[str, object]] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    home: str = "settings"

    def report(self, key: str, found: str, allowed: str) -> None:
        """Note that `key` has something that is not allowed."""
        self.problems.append(f"{self.sources.get(key, self.home)}: {key}: found {found}; allowed: {allowed}")

    def take_file(self, path: Path) -> None:
        """Read the TOML file. Raises SettingsError when it cannot be read or parsed: all else would follow."""
        self.home = str(path)
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise SettingsError([f"{path}: cannot be read: {error.strerror}"]) from None
        except ValueError as error:  # tomllib's and UTF-8's errors; both say where
            raise SettingsError([f"{path}: is not TOML: {error}"]) from None
        for section, table in document.items():
            if not isinstance(table, dict):
                self.report(section, _shown(table), f"a table [{section}] of keys")
                continue
            for key, value in table.items():
                self._take(section, key, value, str(path))

    def take_environment(self, environ: Mapping[str, str]) -> None:
        """Read the variables that are settings: `BLOCKYARD_`, a section, two underscores, a key."""
        for name in sorted(environ):
            section, separator, key = name.removeprefix(PREFIX).lower().partition(SEPARATOR)
            if not name.startswith(PREFIX) or not separator:
                continue
            value: object = environ[name]
            if _is_list(self._type(section, key)):
                value = [part.strip() for part in environ[name].split(",") if part.strip()]
            self._take(section, key, value, f"environment variable {name}", is_text=True)

    def build_section(self, name: str) -> Section | None:
        """Return the section, or None when problems were reported."""
        cls = self.known[name]
        values = self.values.get(name, {})
        before = len(self.problems)
        for each in msgspec.structs.fields(cls):
            if each.required and each.name not in values and f"{name}.{each.name}" not in self.sources:
                self.report(f"{name}.{each.name}", "nothing", _allowed(each.type))
        if len(self.problems) > before or any(key not in values for key in self._seen(name)):
            return None
        section = cls(**values)
        for key, found, allowed in section.broken():
            self.report(f"{name}.{key}", _shown(found), allowed)
        return section

    def _take(self, section: str, key: str, value: object, source: str, *, is_text: bool = False) -> None:
        dotted = f"{section}.{key}"
        expected = self._type(section, key)
        if expected is None:
            self.problems.append(f"{source}: {dotted}: unknown{self._did_you_mean(section, key)}")
            return
        self.sources[dotted] = source
        self.values.setdefault(section, {}).pop(key, None)
        try:
            self.values[section][key] = msgspec.convert(value, expected, strict=not is_text)
        except msgspec.ValidationError:
            self.report(dotted, _shown(value), _allowed(expected))

    def _type(self, section: str, key: str) -> Any:
        cls = self.known.get(section)
        if cls is None:
            return None
        return next((each.type for each in msgspec.structs.fields(cls) if each.name == key), None)

    def _seen(self, section: str) -> list[str]:
        return [key.partition(".")[2] for key in self.sources if key.partition(".")[0] == section]

    def _did_you_mean(self, section: str, key: str) -> str:
        every = [f"{name}.{each.name}" for name, cls in self.known.items() for each in msgspec.structs.fields(cls)]
        same_key = [dotted for dotted in every if dotted.partition(".")[2] == key]
        close = same_key or difflib.get_close_matches(f"{section}.{key}", every, n=1)
        if close:
            return f"; did you mean {close[0]}?"
        if section in self.known:
            return f"; known in [{section}]: " + ", ".join(
                each.name for each in msgspec.structs.fields(self.known[section])
            )
        return "; known sections: " + ", ".join(sorted(self.known))


def read(
    kind: type[R], known: Mapping[str, type[Section]], path: str | os.PathLike[str] | None, environ: Mapping[str, str]
) -> R:
    """Return the record of `kind` from the file at `path` (None: no file) and `environ`.

    Sections in `known` that `kind` does not have are checked and left out, so that one file can serve all processes
    of a machine. Raises SettingsError with all problems.
    """
    reading = Reading(known)
    if path is not None:
        reading.take_file(Path(path))
    reading.take_environment(environ)
    wanted = [each.name for each in msgspec.structs.fields(kind)]
    sections = {name: reading.build_section(name) for name in wanted}
    if reading.problems:
        raise SettingsError(reading.problems)
    record = kind(**sections)
    for key, found, allowed in record.broken():
        reading.report(key, _shown(found), allowed)
    if reading.problems:
        raise SettingsError(reading.problems)
    return record


def _is_list(expected: Any) -> bool:
    return expected is not None and isinstance(types.type_info(expected), types.VarTupleType)


def _shown(value: object) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_shown(each) for each in value) + "]"
    return str(value)


def _allowed(expected: Any) -> str:
    """Return in words what a value of this type may be."""
    match types.type_info(expected):
        case types.BoolType():
            return "true or false"
        case types.LiteralType(values=values):
            return "one of " + ", ".join(_shown(value) for value in values)
        case types.IntType(ge=low, le=high):
            return "a whole number" + _range(low, high)
        case types.FloatType(ge=low, le=high):
            return "a number" + _range(low, high)
        case types.StrType(min_length=shortest):
            return "text that is not empty" if shortest else "text"
        case types.VarTupleType(item_type=item):
            return f"a list of {'host:port texts' if getattr(item, 'pattern', None) else 'texts'}"
    raise TypeError(f"settings cannot hold {expected!r}")


def _range(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f" from {low} to {high}"
    if low is not None:
        return f" of at least {low}"
    return "" if high is None else f" of at most {high}"
