"""Protection profiles are complete, quote the report's tables, and refuse what cannot be enforced."""

from __future__ import annotations

import dataclasses

import pytest

from atoll.core.errors import InputError
from atoll.privacy import profiles


def test_the_six_profiles_are_there_and_the_default_is_available() -> None:
    assert list(profiles.PROFILES) == [
        "plain",
        "secure",
        "secure+dp",
        "hidden-intersection",
        "attested",
        "malicious-aggregate",
    ]
    assert profiles.require(profiles.DEFAULT).name == "secure"


@pytest.mark.parametrize("profile", profiles.PROFILES.values(), ids=lambda profile: profile.name)
def test_a_profile_is_complete(profile: profiles.Profile) -> None:
    for field in dataclasses.fields(profile):
        value = getattr(profile, field.name)
        if field.name not in {"available", "missing"}:
            assert value, field.name
        if isinstance(value, profiles.Term):
            assert value.english
            assert any("\u4e00" <= letter <= "\u9fff" for letter in value.chinese)
    assert set(profile.rows) <= set(profiles.TECHNOLOGIES)
    assert profile.available != bool(profile.missing)


def test_unavailable_profiles_are_refused_with_the_reason() -> None:
    for name, profile in profiles.PROFILES.items():
        if profile.available:
            assert profiles.require(name) is profile
            continue
        with pytest.raises(InputError, match="not available in this release") as caught:
            profiles.require(name)
        assert profile.missing in str(caught.value)
        assert "'secure'" in caught.value.cure


def test_a_misspelt_profile_gets_the_nearest_name() -> None:
    with pytest.raises(InputError, match="no protection profile 'secur'") as caught:
        profiles.require("secur")
    assert "Did you mean 'secure'?" in caught.value.cure
    with pytest.raises(InputError) as caught:
        profiles.get("???")
    assert "Profiles: plain" in caught.value.cure


def test_the_reports_rows_are_quoted_word_for_word() -> None:
    quoted = {
        "tee": "可信执行环境 很高 无 硬件制造商与提供商，恶意模型假设 高 高 有 复杂计算 中心化/分布式",
        "he": "同态加密 高 无 同态加密密钥管理方（共信第三方），通常为半诚实模型假设 "
        "低 中 无 加法和乘法计算 中心化/分布式",
        "fl": "联邦学习 中 无 交换的统计信息不会泄漏敏感的数据源信息 高 高 无 多中心机器学习 分布式",
        "mpc": "多方安全计算 高 无 无串谋，通常为半诚实模型假设 低 中 无 基本算子计算 分布式",
        "dp": "差分隐私 低 有 统计概率边界内的输出信息的隐私保护 高 低 无 结果保护 中心化/分布式",
        "secure-fl": "安全联邦学习 很高 有 综合利用不同隐私保护计算技术，支持恶意模型假设、保护计算过程和计算结果",
    }
    for key, technology in profiles.TECHNOLOGIES.items():
        terms = (getattr(technology, field.name) for field in dataclasses.fields(technology))
        assert " ".join(term.chinese for term in terms if term) == quoted[key]


def test_profiles_are_frozen() -> None:
    with pytest.raises(TypeError):
        profiles.PROFILES["mine"] = profiles.PROFILES["secure"]  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        profiles.PROFILES["plain"].available = True  # type: ignore[misc]
