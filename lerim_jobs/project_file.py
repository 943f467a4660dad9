"""What a project's own settings file may say. A repository is somebody else's: it may only narrow what the user has allowed.

`MAY_SAY` is the whole list. Addresses, providers, keys, prices, Redis, backends, agents' folders, the schedule and what is kept
are the user's alone: whatever decides where a key, a transcript or a trace goes, and what it may cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from msgspec import structs

from lerim_jobs.settings import ROLES, Role, Settings

__all__ = ["MAY_SAY", "lowered", "narrowed"]

Key = tuple[str, ...]
Said = dict[Key, Any]

_YOURS = "only your own settings may say this; a project's file may not"


class _Refused(Exception):
    """Why a project's file may not say it."""


@dataclass(frozen=True)
class _User:
    """The user's settings, and what the user's file says in so many words."""

    settings: Settings
    layer: Mapping[str, Any]


def _any(user: _User, key: Key, value: Any) -> Said:
    return {key: value}


def _lower(user: _User, key: Key, value: Any) -> Said:
    most: Any = user.settings
    for name in key:
        # a role without a cap of its own has none
        most = most.get(name, float("inf")) if isinstance(most, dict) else getattr(most, name)
    if not value <= most:  # what is not a number is no number below it
        raise _Refused(f"a project's file may only lower it, and yours says {most:g}")
    return {key: value}


def _unless_forbidden(user: _User, key: Key, value: Any) -> Said:
    forbidden = user.layer.get(key[0], {}).get(key[1]) is False
    return {key: value and not forbidden}


def _own_model(user: _User, key: Key, value: Any) -> Said:
    """With the model goes the provider and the address that the user's settings reach it by."""
    for name in (key[1], *ROLES):
        one: Role = getattr(user.settings.roles, name)
        is_fallback = value in one.fallback_models and ":" not in value
        if is_fallback or (one.model and value in (one.model, f"{one.provider}:{one.model}")):
            model = value if is_fallback else one.model
            chosen = {"provider": one.provider, "model": model, "api_base": one.api_base}
            return {(*key[:2], part): given for part, given in chosen.items()}
    raise _Refused(f"{value!r} is none of the models that your own settings name for a role")


def _own_models(user: _User, key: Key, value: Any) -> Said:
    """Fallbacks that the user gave this role, or with their provider another one, and other roles' models."""
    roles: list[Role] = [getattr(user.settings.roles, name) for name in ROLES]
    here: Role = getattr(user.settings.roles, key[1])
    beside = {one.model for one in roles if (one.provider, one.api_base) == (here.provider, here.api_base)}
    elsewhere = {f"{one.provider}:{one.model}" for one in roles if one.provider and one.model and not one.api_base}
    named = {f"{here.provider}:{model}" for model in beside if here.provider and model}
    known = {
        *here.fallback_models,
        *beside,
        *named,
        *elsewhere,
        *(e for one in roles for e in one.fallback_models if ":" in e),
    }
    for entry in value:
        if entry not in known or not entry:
            raise _Refused(f"{entry!r} is none of the models that your own settings name for a role")
    return {key: value}


MAY_SAY: dict[str, Callable[[_User, Key, Any], Said]] = {
    "roles.*.model": _own_model,
    "roles.*.fallback_models": _own_models,
    "roles.*.timeout_seconds": _lower,
    "roles.*.max_iterations": _lower,
    "roles.*.max_window_tokens": _lower,
    "roles.*.window_overlap_tokens": _any,
    "roles.*.max_output_tokens": _lower,
    "budget.per_job_usd": _lower,
    "budget.per_day_usd": _lower,
    "budget.per_role_usd.*": _lower,
    "budget.per_job_unpriced_tokens": _lower,
    "budget.per_day_unpriced_tokens": _lower,
    "decay.*": _any,
    "memory.max_archived_per_job": _lower,
    "memory.curate_batch": _lower,
    "memory.curate_batches": _lower,
    "tracing.enabled": _any,
    "tracing.include_content": _unless_forbidden,
    "tracing.include_httpx": _unless_forbidden,
}
"""By key, with `*` for one name: what it may say. What the user's file forbids about content or bodies stays forbidden."""


def narrowed(
    layer: Mapping[str, Any], mine: Settings, my_layer: Mapping[str, Any], refuse: Callable[[str, str], Exception]
) -> dict[str, Any]:
    """The project's layer as it goes over the user's settings. `my_layer` is what the user's file says in so many words;
    `refuse` makes the error for a key and why.
    """
    user, kept = _User(mine, my_layer), dict[str, Any]()
    for key, value in _leaves(layer):
        rule = next((rule for pattern, rule in MAY_SAY.items() if _fits(pattern, key)), None)
        try:
            if rule is None:
                raise _Refused(_YOURS)
            for name, said in rule(user, key, value).items():
                _put(kept, name, said)
        except _Refused as why:
            raise refuse(".".join(key), str(why)) from None
    return kept


def lowered(settings: Settings, said: Mapping[str, Any]) -> Settings:
    """The settings as they are now, with each cap as low as a project's file says it, where that is lower. `said`: dotted key ->
    value.
    """
    mine = settings.budget
    roles: dict[Any, float] = dict(mine.per_role_usd)
    caps: dict[str, Any] = {}
    for key, cap in said.items():
        section, _, name = key.partition(".")
        role = name.removeprefix("per_role_usd.")
        if section == "budget" and role != name:
            roles[role] = min(roles.get(role, cap), cap)
        elif section == "budget":
            caps[name] = min(getattr(mine, name), cap)
    return structs.replace(settings, budget=structs.replace(mine, per_role_usd=roles, **caps))


def _leaves(layer: Mapping[str, Any], above: Key = ()) -> Iterator[tuple[Key, Any]]:
    for name, value in layer.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*above, name))
        else:
            yield (*above, name), value


def _fits(pattern: str, key: Key) -> bool:
    parts = pattern.split(".")
    return len(parts) == len(key) and all(part in ("*", name) for part, name in zip(parts, key, strict=True))


def _put(kept: dict[str, Any], key: Key, value: Any) -> None:
    for name in key[:-1]:
        kept = kept.setdefault(name, {})
    kept[key[-1]] = value
