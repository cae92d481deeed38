"""The protection profiles a job can choose, against tables 1 and 2 of the CAICT report on privacy computing.

A profile is data. A job states one, every site agrees to it, and the report prints what it means. Profiles
that this release cannot enforce are listed, so that people can plan, and refused when a job names them.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType

from atoll.core.errors import InputError

SOURCE = "China Academy of Information and Communications Technology (中国信息通信研究院), tables 1 and 2"
"""Where the tables come from."""

DEFAULT = "secure"
"""The profile of a job that names none."""


@dataclass(frozen=True)
class Term:
    """A short English phrase with the report's Chinese word for it."""

    english: str
    chinese: str

    def __str__(self) -> str:
        return f"{self.english} ({self.chinese})"


@dataclass(frozen=True)
class Technology:
    """One row of the report's tables 1 and 2, quoted.

    Attributes:
        name: The row's technology.
        process: Table 1, protection of the computation (计算过程保护).
        result: Table 1, protection of the result (计算结果保护).
        trust: Table 1, trust assumption (安全信任模式).
        performance: Table 2, speed (计算性能); None where table 2 has no such row.
        accuracy: Table 2, accuracy (计算精度).
        hardware: Table 2, special hardware needed (硬件依赖).
        scenario: Table 2, what it supports (支持场景).
        topology: Table 2, computation model (计算模型).
    """

    name: Term
    process: Term
    result: Term
    trust: Term
    performance: Term | None = None
    accuracy: Term | None = None
    hardware: Term | None = None
    scenario: Term | None = None
    topology: Term | None = None


@dataclass(frozen=True)
class Profile:
    """What a job under this profile promises.

    Attributes:
        name: The name used in job documents.
        title: One line for people.
        process: Protection of the computation (计算过程保护).
        result: Protection of the result (计算结果保护).
        trust: Trust assumption (安全信任模式).
        performance: Speed (计算性能).
        accuracy: Accuracy (计算精度).
        hardware: Special hardware (硬件依赖).
        meaning: What each grade means here, in plain words, one sentence each.
        rows: Names of the report's technologies that the profile combines.
        available: Whether this release can enforce it.
        missing: What is not there yet; empty if available.
    """

    name: str
    title: str
    process: Term
    result: Term
    trust: Term
    performance: Term
    accuracy: Term
    hardware: Term
    meaning: tuple[str, ...]
    rows: tuple[str, ...]
    available: bool = False
    missing: str = ""


_VERY_HIGH, _HIGH, _MEDIUM, _LOW = (
    Term("very high", "很高"),
    Term("high", "高"),
    Term("medium", "中"),
    Term("low", "低"),
)
_NONE, _PRESENT = Term("none", "无"), Term("yes", "有")
_NOT_NEEDED, _NEEDED = Term("none", "无"), Term("needed", "有")
_EITHER, _DISTRIBUTED = Term("central or distributed", "中心化/分布式"), Term("distributed", "分布式")
_SEMI_HONEST = Term("semi-honest, no collusion", "半诚实模型，无串谋")

TECHNOLOGIES = MappingProxyType(
    {
        "tee": Technology(
            Term("Trusted execution environment", "可信执行环境"),
            _VERY_HIGH,
            _NONE,
            Term("hardware maker and provider; malicious model", "硬件制造商与提供商，恶意模型假设"),
            _HIGH,
            _HIGH,
            _NEEDED,
            Term("complex computation", "复杂计算"),
            _EITHER,
        ),
        "he": Technology(
            Term("Homomorphic encryption", "同态加密"),
            _HIGH,
            _NONE,
            Term(
                "a trusted third party holds the key; usually semi-honest",
                "同态加密密钥管理方（共信第三方），通常为半诚实模型假设",
            ),
            _LOW,
            _MEDIUM,
            _NOT_NEEDED,
            Term("additions and multiplications", "加法和乘法计算"),
            _EITHER,
        ),
        "fl": Technology(
            Term("Federated learning", "联邦学习"),
            _MEDIUM,
            _NONE,
            Term("exchanged statistics do not reveal sensitive source data", "交换的统计信息不会泄漏敏感的数据源信息"),
            _HIGH,
            _HIGH,
            _NOT_NEEDED,
            Term("machine learning over many centres", "多中心机器学习"),
            _DISTRIBUTED,
        ),
        "mpc": Technology(
            Term("Secure multi-party computation", "多方安全计算"),
            _HIGH,
            _NONE,
            Term("no collusion; usually semi-honest", "无串谋，通常为半诚实模型假设"),
            _LOW,
            _MEDIUM,
            _NOT_NEEDED,
            Term("basic operators", "基本算子计算"),
            _DISTRIBUTED,
        ),
        "dp": Technology(
            Term("Differential privacy", "差分隐私"),
            _LOW,
            _PRESENT,
            Term("outputs are private within a statistical bound", "统计概率边界内的输出信息的隐私保护"),
            _HIGH,
            _LOW,
            _NOT_NEEDED,
            Term("protection of results", "结果保护"),
            _EITHER,
        ),
        "secure-fl": Technology(
            Term("Secure federated learning", "安全联邦学习"),
            _VERY_HIGH,
            _PRESENT,
            Term(
                "combines the techniques; supports the malicious model; protects process and result",
                "综合利用不同隐私保护计算技术，支持恶意模型假设、保护计算过程和计算结果",
            ),
        ),
    }
)
"""The report's rows, by a short key."""

_ALL = (
    Profile(
        "plain",
        "Federated, with nothing hidden beyond the data staying local",
        _MEDIUM,
        _NONE,
        Term("partners may read every intermediate value", "各方可见中间结果"),
        _HIGH,
        _HIGH,
        _NOT_NEEDED,
        ("Columns stay with their owner; intermediate sums travel unprotected.", "Results are exact and not noised."),
        ("fl",),
        missing="the steps that run without protection",
    ),
    Profile(
        "secure",
        "Nobody learns intermediate values beyond what the protocol cards state",
        _HIGH,
        _NONE,
        _SEMI_HONEST,
        _HIGH,
        _HIGH,
        _NOT_NEEDED,
        (
            "Intermediate values stay hidden: sums under masks that cancel out, columns that are joined by lattice "
            "encryption and oblivious transfer; what is revealed all the same stands on the protocol cards and in this "
            "report.",
            "The result is exact: no noise is added, so whoever receives it may draw conclusions from it.",
            "Every site follows the protocol and may be curious; sites do not pool what they see.",
        ),
        ("fl", "he", "mpc"),
        available=True,
    ),
    Profile(
        "secure+dp",
        "As secure, and the results are differentially private",
        _VERY_HIGH,
        _PRESENT,
        _SEMI_HONEST,
        _HIGH,
        _MEDIUM,
        _NOT_NEEDED,
        (
            "As secure; where sites' rows are joined, no site learns which customers are in common.",
            "Calibrated noise bounds what the result says about any one person; accuracy pays for it.",
            "What is told is taken from a budget that the owner of the data has set; a spent budget ends the answers.",
        ),
        ("secure-fl", "dp"),
        available=True,
    ),
    Profile(
        "hidden-intersection",
        "As secure, and no site learns which customers are in common",
        _VERY_HIGH,
        _NONE,
        _SEMI_HONEST,
        _MEDIUM,
        _HIGH,
        _NOT_NEEDED,
        (
            "Even membership in the common set stays hidden; work is done on secret shares.",
            "The result is exact and opened only over enough rows; whoever receives it may draw conclusions from it.",
            "Every site follows the protocol and may be curious; sites do not pool what they see.",
        ),
        ("secure-fl", "mpc"),
        available=True,
    ),
    Profile(
        "attested",
        "Aggregation inside an enclave whose quote every site checks",
        _VERY_HIGH,
        _NONE,
        Term("the hardware maker; malicious sites", "硬件制造商与提供商，恶意模型假设"),
        _HIGH,
        _HIGH,
        _NEEDED,
        ("Sites trust the maker of the processor instead of each other.",),
        ("secure-fl", "tee"),
        missing="the check of an enclave's quote",
    ),
    Profile(
        "malicious-aggregate",
        "As secure, and an aggregator that changes a result is noticed",
        _VERY_HIGH,
        _NONE,
        Term("malicious aggregator that no site helps", "恶意模型假设，聚合方与参与方无串谋"),
        _MEDIUM,
        _HIGH,
        _NOT_NEEDED,
        (
            "As secure, and the sites check every sum and the columns that it goes over; an aggregator that changes "
            "either ends the job.",
            "For sites with the same columns, whose aggregator brings no data of its own and adds masked or encrypted "
            "numbers.",
            "A site can add wrong numbers all the same, and an aggregator that a site helps goes unnoticed.",
        ),
        ("secure-fl", "mpc"),
        available=True,
    ),
)

PROFILES = MappingProxyType({profile.name: profile for profile in _ALL})
"""Every profile by name, in order of the list above."""


def get(name: str) -> Profile:
    """Return a profile by name, whether or not this release can enforce it.

    Args:
        name: A key of `PROFILES`.

    Raises:
        InputError: No such profile; the nearest right name is proposed.
    """
    found = PROFILES.get(name)
    if found is not None:
        return found
    near = get_close_matches(name, PROFILES, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise InputError(f"There is no protection profile {name!r}", cure=f"{hint}Profiles: {', '.join(PROFILES)}.")


def require(name: str) -> Profile:
    """Return a profile that this release can enforce.

    Args:
        name: A key of `PROFILES`.

    Raises:
        InputError: No such profile, or one that is not available yet.
    """
    profile = get(name)
    if profile.available:
        return profile
    ready = ", ".join(repr(other.name) for other in PROFILES.values() if other.available)
    raise InputError(
        f"The protection profile {name!r} is not available in this release: it lacks {profile.missing}",
        cure=f"Choose {ready}.",
    )
