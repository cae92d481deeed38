"""Turn a YAML text into a typed document, with errors that name the line and the nearest right word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import msgspec

from atoll.core.errors import InputError
from atoll.data.scan import nearest

T = TypeVar("T")
Path = tuple[str | int, ...]


def parse(text: str, kind: type[T], what: str) -> T:
    """Read a YAML (or JSON) text as a struct.

    Args:
        text: the text.
        kind: the struct type it must fit.
        what: what to call the document in errors, such as its file name.

    Raises:
        InputError: not YAML, a key stands twice, is unknown or missing, or a value does not fit; with line and cure.
    """
    import yaml

    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        value = yaml.safe_load(text)
    except yaml.YAMLError as cause:
        mark = getattr(cause, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        problem = getattr(cause, "problem", None) or "it is not YAML"
        raise InputError(f"{what} cannot be read{where}: {problem}", cure="Correct the line.") from None
    lines: dict[Path, int] = {}
    if root is not None:
        _lines(root, (), lines, what)
    return decode(value, kind, what, lines)


def decode(value: Any, kind: type[T], what: str, lines: Mapping[Path, int] | None = None) -> T:
    """Read plain dicts and lists as a struct, as `parse` does."""
    _Checker(what, lines or {}).check(value, kind, ())
    return msgspec.convert(value, kind)


def flatten(value: Any, path: str = "") -> dict[str, str]:
    """Return a document as one line a leaf, such as `steps[3].max_depth` → `4`."""
    if isinstance(value, Mapping):
        parts = {f"{path}.{key}" if path else str(key): item for key, item in value.items()}
    elif isinstance(value, list | tuple):
        parts = {f"{path}[{at}]": item for at, item in enumerate(value)}
    else:
        return {path: msgspec.json.encode(value).decode()}
    if not parts:
        return {path: "(empty)"}
    return {line: leaf for key, item in parts.items() for line, leaf in flatten(item, key).items()}


def _lines(node: Any, path: Path, lines: dict[Path, int], what: str) -> None:
    lines[path] = node.start_mark.line + 1
    if node.id == "sequence":
        for at, item in enumerate(node.value):
            _lines(item, (*path, at), lines, what)
    if node.id == "mapping":
        for key, item in node.value:
            inner = (*path, key.value)
            if inner in lines:
                at = key.start_mark.line + 1
                raise InputError(
                    f"{what} names {key.value!r} twice, at lines {lines[inner]} and {at}", cure="Keep one."
                )
            _lines(item, inner, lines, what)
            lines[inner] = key.start_mark.line + 1


@dataclass
class _Checker:
    what: str
    lines: Mapping[Path, int]

    def fail(self, path: Path, problem: str, cure: str) -> None:
        line = next((self.lines[path[:end]] for end in range(len(path), -1, -1) if path[:end] in self.lines), 0)
        shown = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
        where = f" at line {line}" if line else ""
        raise InputError(f"{self.what}{where}: {shown + ' ' if shown else ''}{problem}", cure=cure)

    def check(self, value: Any, kind: Any, path: Path) -> None:
        origin, args = get_origin(kind), get_args(kind)
        structs = [arg for arg in args if _is_struct(arg)] if origin in (Union, UnionType) else []
        if structs:
            if value is None and type(None) in args:
                return
            untagged = structs[0].__struct_config__.tag_field is None
            kind = structs[0] if untagged else self.chosen(value, structs, path)
        if _is_struct(kind):
            self.struct(value, kind, path)
        elif origin is dict and isinstance(value, dict):
            for key, item in value.items():
                self.check(key, args[0], (*path, str(key)))
                self.check(item, args[1], (*path, str(key)))
        elif origin is tuple and isinstance(value, list | tuple):
            for at, item in enumerate(value):
                self.check(item, args[0], (*path, at))
        else:
            self.leaf(value, kind, path)

    def leaf(self, value: Any, kind: Any, path: Path) -> None:
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError as cause:
            allowed = [arg for arg in get_args(kind) if isinstance(arg, str)]
            close = nearest(str(value), allowed)
            one_of = f" Write {' or '.join(allowed)}." if allowed else "Correct the value."
            if kind is str and isinstance(value, bool | int | float):
                one_of = "Put it in quotes: YAML takes it for something else than a text."
            problem = str(cause).split(" - at")[0]
            self.fail(path, f"is {value!r}: {problem}", f"Did you mean {close!r}?" if close else one_of.strip())

    def chosen(self, value: Any, structs: list[Any], path: Path) -> Any:
        config = structs[0].__struct_config__
        tags = {each.__struct_config__.tag: each for each in structs}
        if not isinstance(value, dict) or config.tag_field not in value:
            self.fail(
                path, f"has no `{config.tag_field}:`", f"Write `{config.tag_field}: {' | '.join(map(str, tags))}`."
            )
        name = value[config.tag_field]
        if name not in tags:
            close = nearest(str(name), list(tags))
            hint = f"Did you mean {close!r}?" if close else f"There are {', '.join(map(str, tags))}."
            self.fail((*path, config.tag_field), f"{name!r} is unknown", hint)
        return tags[name]

    def struct(self, value: Any, kind: Any, path: Path) -> None:
        if not isinstance(value, dict):
            self.fail(path, "must hold keys and values", f"Its keys are {', '.join(kind.__struct_fields__)}.")
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        tag = kind.__struct_config__.tag_field
        for key in value:
            if key not in fields and key != tag:
                close = nearest(str(key), list(fields))
                hint = f"Did you mean {close!r}?" if close else f"Known keys: {', '.join(fields) or 'none'}."
                self.fail((*path, str(key)), "is an unknown key", hint)
        for name, field in fields.items():
            if name in value:
                self.check(value[name], field.type, (*path, name))
            elif field.required:
                self.fail(path, f"lacks the key {name!r}", f"Add `{name}:`.")
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError as cause:
            self.fail(path, f"does not fit: {cause}", "Correct the value.")
        except InputError as cause:
            self.fail(path, cause.what, cause.cure)


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)
