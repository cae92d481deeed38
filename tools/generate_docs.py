"""Write the documentation pages that come from code: `python tools/generate_docs.py [--check]`.

Generated are the protocol cards, the job document, the command line reference and the errors. The pages are
committed, so that they can be read without building anything; a test fails when one of them is stale.
"""

import inspect
import re
import sys
import typing
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, get_type_hints

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
COMES_FROM = "<!-- Written by tools/generate_docs.py from {source}: edit that, then run make docs. -->\n\n"


def pages() -> dict[Path, str]:
    """All generated pages: path below docs/ → text."""
    return protocol_pages() | {
        Path("reference/cli.md"): cli_page(),
        Path("reference/errors.md"): errors_page(),
        Path("reference/job.md"): job_page(),
    }


def main(check: bool) -> int:
    """Write what differs, or only say so. Returns 1 if `check` and a page is stale."""
    wanted = pages()
    on_disk = {path.relative_to(DOCS) for path in (DOCS / "protocols").glob("*.md")}
    stale = [path for path, text in wanted.items() if read(path) != text]
    left_over = sorted(on_disk - wanted.keys())
    for path in [*stale, *left_over]:
        print(f"{'stale' if check else 'wrote'}: docs/{path}")
    if check:
        return 1 if stale or left_over else 0
    for path in stale:
        (DOCS / path).parent.mkdir(parents=True, exist_ok=True)
        (DOCS / path).write_text(wanted[path], encoding="utf-8")
    for path in left_over:
        (DOCS / path).unlink()
    return 0


def read(path: Path) -> str | None:
    file = DOCS / path
    return file.read_text(encoding="utf-8") if file.exists() else None


# -------------------------------------------------------------------------------------------------------- protocols


def protocol_pages() -> dict[Path, str]:
    from atoll.registry import protocols

    found = protocols()
    rows = [f"| [{name}]({name}.md) | {cell(one.title)} | {cell(assurance(one))} |" for name, one in found.items()]
    index = [
        COMES_FROM.format(source="the cards of all protocols") + "# Protocol cards\n",
        "A card says what a protocol does, against whom it protects, and **what each role learns**. The same text is",
        "printed by `atoll protocol show NAME`, and the report of every job quotes it.\n",
        "| protocol | what it does | assurance |",
        "| --- | --- | --- |",
        *rows,
    ]
    text = {Path("protocols/index.md"): "\n".join(index) + "\n"}
    return text | {Path(f"protocols/{name}.md"): protocol_page(one) for name, one in found.items()}


def assurance(protocol: Any) -> str:
    """The card's word, and whether sites must allow the protocol first."""
    return f"{protocol.card.assurance}, **weak**" if protocol.card.weak else str(protocol.card.assurance)


def protocol_page(protocol: Any) -> str:
    """One protocol's card and messages as a page."""
    card, module = protocol.card, sys.modules[next(iter(protocol.roles.values())).__module__]
    source = module.__name__.replace(".", "/") + ".py"
    lines = [
        COMES_FROM.format(source=source) + f"# {protocol.title.rstrip('.')}\n",
        f"`{protocol.name}`, version {protocol.version}. Defined in `src/{source}`.\n",
        *weakness(protocol),
        "## What each role learns\n",
    ]
    for role, learns in card.reveals.items():
        lines += [f"**{role.replace('_', ' ')}**\n", *(f"- {one}" for one in learns or ("nothing",)), ""]
    for heading, part in (
        ("Security", card.security),
        ("Inputs", card.inputs),
        ("Cost", card.cost),
        ("When it fails", card.fails),
        ("Source", card.source),
        ("Assurance", card.assurance),
    ):
        lines += [f"## {heading}\n", inspect.cleandoc(part), ""]
    if card.notes:
        lines += ["## Notes\n", *(f"- {note}" for note in card.notes), ""]
    lines += ["## Messages\n", *messages(protocol)]
    if protocol.uses:
        inner = ", ".join(f"[{one.name}]({one.name}.md)" for one in protocol.uses)
        lines += ["", f"The messages of {inner} are sent inside of it."]
    return "\n".join(lines).rstrip() + "\n"


def weakness(protocol: Any) -> list[str]:
    """A warning that names the weakness and the consent that it needs; nothing for other protocols."""
    if not protocol.card.weak:
        return []
    return [
        '!!! warning "Weak"\n',
        f"    {protocol.card.weak} A site refuses jobs that use it, unless it has said",
        f"    `atoll site allow {protocol.name}`.\n",
    ]


def messages(protocol: Any) -> list[str]:
    """A table of the kinds that a protocol itself sends, in step order."""
    if not protocol.messages:
        return ["It sends no kinds of its own."]
    lines = ["| kind | fields | meaning |", "| --- | --- | --- |"]
    for kind in protocol.messages:
        hints = get_type_hints(kind, include_extras=True)
        fields = ", ".join(f"`{name}` {kind_of_field(hints[name])}" for name in kind.__struct_fields__) or "none"
        meaning = (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " ")
        lines.append(f"| `{kind.__name__}` | {cell(fields)} | {cell(meaning)} |")
    return lines


def kind_of_field(hint: Any) -> str:
    """A field's type in words: the element type of an array, or the plain type."""
    marks = [mark for mark in getattr(hint, "__metadata__", ()) if hasattr(mark, "dtype")]
    if marks:
        import numpy as np

        return f"array of {np.dtype(marks[0].dtype).name}"
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)


# ----------------------------------------------------------------------------------------------------- command line


def cli_page() -> str:
    """Every command with its arguments and options."""
    from typer.main import get_command

    from atoll.cli import app

    lines = [
        COMES_FROM.format(source="src/atoll/cli") + "# Command line\n",
        "Every command prints this with `--help`. Exit codes are in [Errors and exit codes](errors.md).\n",
    ]
    for words, command in commands("atoll", get_command(app)):
        lines += [f"## {words}\n" if words.count(" ") < 2 else f"### {words}\n", *command_lines(words, command)]
    return "\n".join(lines).rstrip() + "\n"


def commands(words: str, command: Any) -> Iterator[tuple[str, Any]]:
    """A command and all below it, in the order in which --help lists them."""
    yield words, command
    for name, inner in getattr(command, "commands", {}).items():
        if not inner.hidden:
            yield from commands(f"{words} {name}", inner)


def command_lines(words: str, command: Any) -> list[str]:
    """Help text, usage and parameters of one command."""
    parameters = [one for one in command.params if not getattr(one, "hidden", False)]
    arguments = [one for one in parameters if one.param_type_name == "argument"]
    options = [one for one in parameters if one.param_type_name == "option" and "--help" not in one.opts]
    inner = getattr(command, "commands", {})
    usage = [words, *(["[OPTIONS]"] if options else []), *(argument_name(one) for one in arguments)]
    lines = [help_text(command), "", "```text", " ".join([*usage, *(["COMMAND"] if inner else [])]), "```", ""]
    if arguments or options:
        lines += ["| parameter | meaning | default |", "| --- | --- | --- |"]
        lines += [f"| `{argument_name(one)}` | {cell(one.help or '')} | {default(one)} |" for one in arguments]
        lines += [f"| {option_name(one)} | {cell(one.help or '')} | {default(one)} |" for one in options]
        lines.append("")
    return lines


def help_text(command: Any) -> str:
    text = inspect.cleandoc(command.help or "").split("\f")[0].strip()
    return text.replace("\b\n", "")


def argument_name(argument: Any) -> str:
    name = (argument.metavar or argument.name).upper().strip("[]")
    name += "..." if argument.nargs == -1 and not name.endswith("...") else ""
    return name if argument.required else f"[{name}]"


def option_name(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    if option.is_flag:
        return names
    return f"{names} {option.metavar or option.opts[-1].lstrip('-').upper()}{' …' if option.multiple else ''}"


def default(parameter: Any) -> str:
    """The default as a person would type it; nothing where it is computed, empty or off."""
    if parameter.required:
        return "required"
    value = parameter.default
    if value is None or callable(value) or value in (False, "", (), []) or "Sentinel" in type(value).__name__:
        return ""
    return f"`{value}`"


# ---------------------------------------------------------------------------------------------------- job documents


# Step train refuses these: they stand in step bin.
ELSEWHERE = {"train": ("max_bin", "min_bin")}


def job_page() -> str:
    """Every key of a job document."""
    from atoll.node import job
    from atoll.node.steps import STEPS

    lines = [
        COMES_FROM.format(source="src/atoll/node/job.py and src/atoll/node/steps") + "# Job document\n",
        "A job is a YAML file, the same at every site; the [tutorial](../tutorial.md#4-a-job) has a whole one. Unknown",
        "keys are refused, and the nearest right one is named.\n",
        *keys("The document", job.Job),
        *keys("A site's part, under `sites: {NAME: …}`", job.Part),
        *keys("Under `privacy:`", job.JobPrivacy),
        *keys("Under `limits:`", job.Limits),
        *keys("Under `timeouts:`", job.Timeouts),
        "## Steps\n",
        "Steps run in the order in which the job lists them, each as `- step: NAME` with its own keys.\n",
    ]
    for params, step in STEPS.items():
        lines += [
            f"### {step.name}\n",
            f"{step.title}. {first_paragraph(step)}\n",
            *key_table(params, ELSEWHERE.get(step.name, ())),
        ]
    return "\n".join([*lines, *models()]).rstrip() + "\n"


def models() -> list[str]:
    """The models that step fit can name, each with its keys."""
    from atoll.node.models import AnyModel

    lines = ["## Models of step fit\n", "Each as `model: { kind: NAME, … }` with its own keys.\n"]
    for model in typing.get_args(AnyModel):
        lines += [f"### {model.__struct_config__.tag}\n", f"{first_paragraph(model)}\n", *key_table(model)]
    return lines


def keys(heading: str, struct: Any) -> list[str]:
    return [f"## {heading}\n", f"{first_paragraph(struct)}\n", *key_table(struct)]


def key_table(struct: Any, skip: Collection[str] = ()) -> list[str]:
    """A table of a struct's fields, with what its docstring says of them."""
    import msgspec

    meanings = field_texts(struct)
    lines = ["| key | meaning | default |", "| --- | --- | --- |"]
    for field in msgspec.structs.fields(struct):
        if field.name in skip:
            continue
        name = field.encode_name
        lines.append(f"| `{name}` | {cell(meanings.get(field.name, ''))} | {field_default(field)} |")
    return [*lines, ""] if len(lines) > 2 else ["It has no keys.", ""]


def field_texts(struct: Any) -> dict[str, str]:
    """What the docstrings of a class and its bases say under Attributes or Args."""
    texts: dict[str, str] = {}
    for one in reversed(struct.__mro__[:-1]):
        text = inspect.cleandoc(one.__dict__.get("__doc__") or "")
        section = re.search(r"^(?:Attributes|Args):\n((?:[ ]{4}.*\n?|\n)+)", text, re.M)
        for name, meaning in re.findall(r"^ {4}(\w+): ((?:.+)(?:\n {5,}.+)*)", section[1] if section else "", re.M):
            texts[name] = meaning
    return texts


def field_default(field: Any) -> str:
    import msgspec

    if field.required:
        return "required"
    if field.default is msgspec.NODEFAULT or isinstance(field.default, msgspec.Struct):
        return ""
    value = list(field.default) if isinstance(field.default, tuple) else field.default
    return "" if value is None or value in ("", []) else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def first_paragraph(thing: Any) -> str:
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


# ----------------------------------------------------------------------------------------------------------- errors


def errors_page() -> str:
    """Every error class with its exit code."""
    import atoll.node.process  # noqa: F401, so that the error of a stopped job is there
    from atoll.core.errors import AtollError

    lines = [
        COMES_FROM.format(source="src/atoll/core/errors.py") + "# Errors and exit codes\n",
        "An error says what happened, where (site, step, column) and what to do about it. Whoever notices it tells all",
        "other sites of the job, so that every site ends with the same cause.",
        "[Troubleshooting](../how-to/troubleshooting.md) lists common ones with their cures.\n",
        "| error | exit code | meaning |",
        "| --- | --: | --- |",
        "| (none) | 0 | The command did what it was asked to do, at every site. |",
    ]
    for error in error_classes(AtollError):
        meaning = (inspect.getdoc(error) or "").split("\n\n")[0].replace("\n", " ")
        lines.append(f"| `{error.__name__}` | {error.exit_code} | {cell(meaning)} |")
    return "\n".join(lines) + "\n"


def error_classes(root: type[Any]) -> list[type[Any]]:
    """The class and all that derive from it, by exit code."""
    found = [root]
    for one in found:
        found += [one for one in one.__subclasses__() if one not in found and one.__module__.startswith("atoll")]
    return sorted(found, key=lambda error: (error.exit_code, error.__name__))


def cell(text: str) -> str:
    """Text that may stand in a table."""
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
