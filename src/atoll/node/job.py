"""The job document: one typed record behind the YAML file and the Python builder.

All sites must hold the same document. Its canonical form is JSON with sorted keys and every default written
out; the SHA-256 of that is what the sites sign.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from atoll.core.errors import ContractError, InputError
from atoll.node.document import decode, flatten, parse
from atoll.node.private import JobPrivacy, check_privacy
from atoll.node.steps import AnyParams, Compare
from atoll.node.steps.base import SURVIVING, Topology

SiteName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
Role = Literal["label-holder", "feature-holder", "asker", "data-holder", "aggregator", "member"]
HUBS: Mapping[str, str] = {"label-holder": "feature-holder", "asker": "data-holder", "aggregator": "member"}
"""Who is in the middle of a job's star, and what the others then are."""
CHECKED = ("star", "lattice")
"""How an aggregator without data adds so that the others notice a changed sum."""
CHECKED_PROTOCOLS = frozenset({"schema-comparison", "sum-star", "sum-lattice"})
"""Protocols of which the others notice what an aggregator without data makes of them."""
LATEST = datetime(9999, 12, 31, tzinfo=UTC)


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one site brings.

    Attributes:
        role: `label-holder` (exactly one) and `feature-holder` in jobs that train or score; `asker` (exactly one) and
            `data-holder` in jobs that answer a question; `aggregator` (exactly one) and `member` in jobs of sites with
            the same columns and different people.
        data: the site's own name of its data set; an aggregator may bring none.
        id: the id column, or columns that make one key together; or a list of such lists, keys by which rows are
            matched in order of preference: `[[phone], [name, born]]`. They must mean the same at every site, in the
            same order. Members and aggregator need none, for their rows are not joined.
        label: the label holder's column of outcomes, 0 or 1; among members the same column at every site, of any kind.
        columns: the columns that take part; empty means all but the ids and the label.
        rename: what the job calls columns of this site: `{sex: gender}`. The job's names stand everywhere else. This
            and the three keys below are for sites with the same columns.
        recode: what values of a column are called: `{gender: {M: male, F: female}}`; other values stay as they are, and
            `""` makes them missing. With numbers, `{died: {"yes": 1, "no": 0}}`, the column becomes numeric.
        scale: what numbers of a column are multiplied by: `{height: 0.01}`.
        units: the units of columns, after `scale`: `{height: m}`; others as the data set says.
    """

    role: Role
    data: str = ""
    id: str | tuple[str | tuple[str, ...], ...] = ()
    label: str = ""
    columns: tuple[str, ...] = ()
    rename: dict[str, str] = {}
    recode: dict[str, dict[str, str | float]] = {}
    scale: dict[str, float] = {}
    units: dict[str, str] = {}

    def __post_init__(self) -> None:
        if isinstance(self.id, str):
            msgspec.structs.force_setattr(self, "id", (self.id,))
        lists = [one for one in self.id if not isinstance(one, str)]
        if lists and (len(lists) < len(self.id) or not all(lists)):
            raise InputError(
                "id mixes columns and lists of columns, or holds an empty list",
                cure="Write `[a, b]` for one key of two columns, `[[a], [b]]` for two keys in order of preference.",
            )
        if not self.data and self.role != "aggregator":
            raise InputError("lacks the key 'data'", cure="Add `data:`.")
        _check_alike(self)

    @property
    def keys(self) -> tuple[tuple[str, ...], ...]:
        """The columns of each candidate key, in order of preference."""
        whole = tuple(one for one in self.id if isinstance(one, str))
        return (whole,) if whole else tuple(one for one in self.id if not isinstance(one, str))

    @property
    def ids(self) -> tuple[str, ...]:
        """All id columns, each once."""
        return tuple(dict.fromkeys(name for key in self.keys for name in key))

    @property
    def key_text(self) -> str:
        """The candidate keys for people."""
        return ", else ".join(" + ".join(key) for key in self.keys)


def _check_alike(part: Part) -> None:
    """Refuse names, codings and units that cannot be."""
    if len(set(part.rename.values())) < len(part.rename) or set(part.rename) & set(part.ids):
        raise InputError("rename gives two columns one name, or renames an id", cure="Correct `rename:`.")
    for name, coding in part.recode.items():
        if len({isinstance(new, str) for new in coding.values()}) != 1:
            cure = "Give each value a text, or each a number."
            raise InputError(f"recode of {name} mixes texts and numbers, or is empty", cure=cure)
    if not all(math.isfinite(factor) and factor for factor in part.scale.values()):
        raise InputError("scale holds a factor that is 0 or not finite", cure="Correct `scale:`.")


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the sites allow beyond the ordinary.

    Attributes:
        reveals: `rows of M` allows more vectors than rows / 100 in one job, so that the label holder could
            solve for rows of a feature holder's bins.
    """

    reveals: tuple[Literal["rows of M"], ...] = ()


class Timeouts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long a site waits, in seconds.

    Attributes:
        join: for the other sites to appear.
        message: for any single message once the job runs.
        lost: without a connection, before a peer counts as gone.
    """

    join: Seconds = 60.0
    message: Seconds = 600.0
    lost: Seconds = 30.0


class Job(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A job that several sites run together.

    Attributes:
        name: its name; results are stored under it.
        purpose: why the data may be used, in words people can hold each other to.
        expires: the last day (UTC) on which it may run.
        sites: what each site brings, by the site's name.
        steps: what is done, in order.
        profile: the protection profile.
        privacy: noise in every total of a job of sites with the same columns; none if left out. Jobs that ask say it in
            their step.
        limits: what is allowed beyond the ordinary.
        timeouts: how long a site waits.
    """

    name: SiteName
    purpose: str
    expires: date
    sites: dict[SiteName, Part]
    steps: tuple[AnyParams, ...]
    profile: str = "secure"
    privacy: JobPrivacy | None = None
    limits: Limits = Limits()
    timeouts: Timeouts = Timeouts()

    @classmethod
    def load(cls, path: Path) -> Job:
        """Read a job from a YAML file.

        Raises:
            InputError: the file is not there or does not fit; with the line and the nearest right name.
        """
        try:
            text = path.read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as cause:
            raise InputError(f"the job {path.name} cannot be read", detail=str(cause), cure="Check the path.") from None
        return parse(text, cls, path.name)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Job:
        """Read a job from plain dicts and lists, with the same checks as `load`."""
        return decode(dict(document), cls, "the job")

    def canonical(self) -> bytes:
        """The JSON text that is hashed and signed: sorted keys, every default written out."""
        return msgspec.json.encode(self, order="sorted")

    def digest(self) -> bytes:
        """SHA-256 of the canonical text."""
        return hashlib.sha256(self.canonical()).digest()

    @property
    def id(self) -> str:
        """The job's name with the beginning of its digest."""
        return f"{self.name}-{self.digest().hex()[:10]}"

    @property
    def hub(self) -> str:
        """The site in the middle of the star: the label holder, the asker, or the aggregator."""
        return next(name for name, part in self.sites.items() if part.role in HUBS)

    @property
    def horizontal(self) -> bool:
        """Whether the sites hold the same columns of different people."""
        return self.sites[self.hub].role == "aggregator"

    @property
    def label(self) -> str:
        """The column of outcomes; empty where no site names one."""
        return next((part.label for part in self.sites.values() if part.label), "")

    @property
    def partners(self) -> tuple[str, ...]:
        """The other sites in alphabetical order."""
        return tuple(sorted(name for name, part in self.sites.items() if part.role not in HUBS))

    @property
    def topology(self) -> Topology:
        """How the sites of a horizontal job add; see step `compare`."""
        return self.adding.topology

    @property
    def adding(self) -> Compare:
        """What the sites of a horizontal job agree on about their sums."""
        return next((step for step in self.steps if isinstance(step, Compare)), Compare())

    @property
    def least(self) -> int:
        """Fewest sites with data that must be left, where the job goes on without those that fail."""
        bringing = sum(bool(part.data) for part in self.sites.values())
        return self.adding.at_least or min(bringing, max(3, bringing // 2 + 1))

    @property
    def aggregators(self) -> tuple[str, ...]:
        """The sites that add under `topology: aggregators`; see step `compare`."""
        return self.adding.aggregators or tuple(sorted(self.sites)[:2])

    def peers(self, site: str) -> tuple[str, ...]:
        """The sites that `site` is linked to: all of them for the hub, the hub for the others of a star."""
        if self.topology == "aggregators" and site not in (self.hub, *self.aggregators):
            return tuple(sorted({self.hub, *self.aggregators}))
        if self.topology not in ("star", "dropouts", "lattice"):
            return tuple(sorted(name for name in self.sites if name != site))
        return self.partners if site == self.hub else (self.hub,)

    def to_yaml(self) -> str:
        """The document as YAML without the defaults that nobody changed."""
        import yaml

        plain = _without_defaults(self)
        text: str = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)
        return text


def unexpired(job: Job, now: datetime | None = None) -> None:
    """Refuse a job that may not run any more, by this machine's clock.

    Args:
        job: the job.
        now: the moment; the present if left out.

    Raises:
        ContractError: it has expired.
    """
    today = (now or datetime.now(UTC)).date()
    if job.expires < today:
        raise ContractError(
            f"the job expired on {job.expires}",
            step="contract",
            cure=f"Agree on a new date under `expires:`; or set this machine's clock, by which it is {today} (UTC).",
        )


def check(job: Job, *, dated: bool = True) -> None:
    """Refuse a job that no site should run.

    Args:
        job: the job.
        dated: whether it must not have expired.

    Raises:
        ContractError: it has no purpose, has expired, or names an unknown or unavailable profile, or one that it
            does not keep.
        InputError: its sites or steps do not fit together.
    """
    from atoll.node.steps import build, check_order
    from atoll.privacy import profiles

    if len(job.purpose.split()) < 2:
        raise ContractError("the job states no purpose", cure="Say in words under `purpose:` what the result is for.")
    if dated:
        unexpired(job)
    try:
        profiles.require(job.profile)
    except InputError as cause:
        raise ContractError(cause.what, cure=cause.cure) from None
    for step in build(job):
        if job.profile == "hidden-intersection" and not step.hides_rows:
            raise ContractError(
                f"step {step.name} shows which rows are in common, which the profile {job.profile!r} rules out",
                step=step.name,
                cure="Choose the profile 'secure', or ask for totals only: `step: ask`.",
            )
    _check_roles(job)
    _check_noise(job)
    _check_aggregate(job)
    if job.horizontal:
        _check_members(job)
    else:
        _check_holders(job)
    check_order(job)
    check_privacy(job)


def _check_holders(job: Job) -> None:
    """Refuse parts of a job whose sites hold different columns of the same people."""
    widths = {name: tuple(map(len, part.keys)) for name, part in job.sites.items()}
    if len(set(widths.values())) != 1 or () in widths.values():
        named = "; ".join(f"{name} {part.key_text}" for name, part in job.sites.items())
        raise InputError(f"the sites name different numbers of id columns: {named}", cure="Name the same key at each.")
    for name, part in job.sites.items():
        if part.label and part.role != "label-holder":
            raise InputError(f"site {name} holds features but names a label", site=name, cure="Remove `label:` there.")
        if part.rename or part.recode or part.scale or part.units:
            cure = "Rename and recode the data set itself."
            raise InputError(f"the columns of site {name} need not be like others'", site=name, cure=cure)


def _check_members(job: Job) -> None:
    """Refuse parts of a job whose sites hold the same columns of different people."""
    bringing = {name: part for name, part in job.sites.items() if part.data}
    if len(bringing) < 2:
        raise InputError(
            "one site alone brings data, and a sum of one site shows its own figures",
            cure="Add a second `role: member`, or let the aggregator bring data, too.",
        )
    _check_departures(job, len(bringing))
    if job.topology not in ("star", "dropouts", "lattice") and len(bringing) < len(job.sites):
        raise InputError(
            f"site {job.hub} brings no data, and nobody is in the middle where sites add directly",
            site=job.hub,
            cure="Take `topology: star`, `dropouts` or `lattice`, or leave the site out.",
        )
    if job.topology == "aggregators" and not (
        2 <= len(set(job.aggregators)) == len(job.aggregators) <= 3 and set(job.aggregators) <= set(job.sites)
    ):
        raise InputError(
            f"aggregators must be two or three of the sites, and the job names {', '.join(job.aggregators)}",
            cure=f"Choose among {', '.join(sorted(job.sites))} under `aggregators:` in step compare.",
        )
    labels = {name: part.label for name, part in bringing.items()}
    if len(set(labels.values())) > 1:
        raise InputError(
            f"the sites name different labels: {', '.join(f'{name} {label!r}' for name, label in labels.items())}",
            cure="Name the same column at every site, or at none.",
        )
    columns = {frozenset(part.columns) for part in bringing.values()}
    if len(columns) > 1:
        some = sorted(frozenset.union(*columns) - frozenset.intersection(*columns))
        raise InputError(
            f"not all sites name the same columns: {', '.join(some)} stand at some of them",
            cure="Name the same columns at every site, or at none.",
        )


def _check_departures(job: Job, bringing: int) -> None:
    """Refuse what a job cannot keep that goes on without sites."""
    asked = job.adding
    if job.topology not in SURVIVING:
        if asked.at_least:
            raise InputError(
                f"over {job.topology} every site is needed, and `at_least:` has no meaning",
                step="compare",
                cure="Remove it, or take `topology: dropouts` or `ring`.",
            )
        return
    if job.profile == "secure+dp":
        raise ContractError(
            f"over {job.topology} a step may begin again, and would spend its privacy budget once more",
            step="compare",
            cure="Take `topology: star` where totals are told with noise.",
        )
    fewest = 3 if job.topology == "dropouts" and job.sites[job.hub].data else 2
    if not fewest <= job.least <= bringing:
        raise InputError(
            f"{job.least} of {bringing} sites with data cannot be what must be left: {fewest} and more, up to all",
            step="compare",
            cure=f"Say `at_least:` from {fewest} to {bringing}, or take `topology: star`.",
        )
    if job.timeouts.message < 3 * asked.patience:
        raise InputError(
            f"a site waits {job.timeouts.message:g} s for a message, and others may keep it waiting for a late one",
            step="compare",
            cure=f"Say `timeouts: {{message: {3 * asked.patience:g}}}` or more, or less `patience:`.",
        )


def _check_noise(job: Job) -> None:
    """Refuse under the profile `secure+dp` what is not differentially private for every site."""
    from atoll.node.steps import build

    for step in build(job) if job.profile == "secure+dp" else ():
        for site in job.sites:
            if step.loss(job, site) is None:
                raise ContractError(
                    f"step {step.name} adds no noise to what it tells about the rows of {site}, which the profile "
                    f"{job.profile!r} demands",
                    step=step.name,
                    cure="Say `privacy:` in `step: ask`, or for the job if its sites have the same columns; or choose "
                    "another profile.",
                )


def _check_aggregate(job: Job) -> None:
    """Refuse under the profile `malicious-aggregate` sums that nobody checks."""
    if job.profile != "malicious-aggregate":
        return
    from atoll.node.steps import build

    if not job.horizontal or job.sites[job.hub].data or job.topology not in CHECKED:
        raise ContractError(
            f"the profile {job.profile!r} is for sites with the same columns whose aggregator brings no data and adds "
            f"over {' or '.join(CHECKED)}: its sums can be checked",
            cure="Let an aggregator without data add, or choose the profile 'secure'.",
        )
    for step in build(job):
        if others := [protocol.name for protocol in step.uses() if protocol.name not in CHECKED_PROTOCOLS]:
            raise ContractError(
                f"step {step.name} uses {', '.join(others)}, whose results nobody checks",
                step=step.name,
                cure="Leave the step out, or choose the profile 'secure'.",
            )


def _check_roles(job: Job) -> None:
    """Refuse roles that make no star, or that the steps have no use for."""
    from atoll.node.steps import asks, build

    hub = "asker" if asks(job) else next((step.hub for step in build(job)), "label-holder")
    other = HUBS[hub]
    roles: list[str] = [part.role for part in job.sites.values()]
    if roles.count(hub) != 1 or len(roles) < 2 or set(roles) != {hub, other}:
        raise InputError(
            f"the job has {roles.count(hub)} {hub.replace('-', ' ')}s among {len(roles)} sites"
            if roles.count(hub) != 1 or len(roles) < 2
            else f"the job's steps have no use for the roles {', '.join(sorted(set(roles) - {hub, other}))}",
            cure=f"A job with these steps needs exactly one `role: {hub}` and at least one `role: {other}`.",
        )


def differences(mine: bytes, theirs: bytes, me: str, them: str) -> list[str]:
    """Say line by line where two canonical documents differ.

    Args:
        mine: this site's canonical document.
        theirs: the other site's document, as received.
        me: this site's name.
        them: the other site's name.
    """
    try:
        left, right = (flatten(msgspec.json.decode(document)) for document in (mine, theirs))
    except msgspec.DecodeError:
        return [f"the document of {them} is not JSON"]
    lines = []
    for key in sorted(left.keys() | right.keys()):
        a, b = left.get(key, "(absent)"), right.get(key, "(absent)")
        if a != b:
            lines.append(f"{key}: {a} at {me}, {b} at {them}")
    return lines


def _without_defaults(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        config, found = type(value).__struct_config__, {}
        if config.tag_field:
            found[config.tag_field] = config.tag
        for field in msgspec.structs.fields(value):
            item = getattr(value, field.name)
            if field.required or item != field.default:
                found[field.encode_name] = _without_defaults(item)
        return found
    if isinstance(value, dict):
        return {key: _without_defaults(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_without_defaults(item) for item in value]
    return value
