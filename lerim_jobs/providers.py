"""Which model each role uses and whether its key is there: looked up before any work starts, without model libraries."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException

import msgspec

from lerim_jobs.config import ROLES, Role, RoleName, Settings
from lerim_jobs.errors import ConfigError

__all__ = [
    "OFFLINE",
    "PROVIDERS",
    "ModelChoice",
    "ProviderSpec",
    "RoleChoice",
    "check_models",
    "is_demo",
    "ollama_models",
    "resolve",
]

OFFLINE = "offline"
_PROBE_S = 0.5
_ABSENT_S = 5.0
_ollama: dict[str, tuple[tuple[str, ...], float]] = {}
"""Address -> its models, and until when finding none holds."""


class ProviderSpec(msgspec.Struct, frozen=True):
    """A provider: the variable its key is read from, its address, and models that suit our roles."""

    key_variable: str | None
    api_base: str
    thinker: str = ""
    reader: str = ""


PROVIDERS: dict[str, ProviderSpec] = {
    "openrouter": ProviderSpec(
        "OPENROUTER_API_KEY", "https://openrouter.ai/api/v1", "x-ai/grok-4.1-fast", "openai/gpt-5-nano"
    ),
    "openai": ProviderSpec("OPENAI_API_KEY", "https://api.openai.com/v1", "gpt-5-mini", "gpt-5-nano"),
    "anthropic": ProviderSpec("ANTHROPIC_API_KEY", "https://api.anthropic.com", "claude-haiku-4-5", "claude-haiku-4-5"),
    "zai": ProviderSpec("ZAI_API_KEY", "https://api.z.ai/api/paas/v4", "glm-4.7", "glm-4.7"),
    "minimax": ProviderSpec("MINIMAX_API_KEY", "https://api.minimax.io/v1", "MiniMax-M2", "MiniMax-M2"),
    "ollama": ProviderSpec(None, "http://127.0.0.1:11434/v1"),
    OFFLINE: ProviderSpec(None, "", "offline-rules", "offline-rules"),
}
"""In the order in which a key found in the environment chooses the provider of roles that name none."""


class ModelChoice(msgspec.Struct, frozen=True):
    """One model at one address. `key_variable` None: no key is needed."""

    provider: str
    model: str
    api_base: str
    key_variable: str | None


class RoleChoice(msgspec.Struct, frozen=True):
    """A role's model and its fallbacks, in the order they are tried."""

    role: RoleName
    model: ModelChoice
    fallbacks: list[ModelChoice]


def resolve(settings: Settings, env: Mapping[str, str]) -> dict[RoleName, RoleChoice]:
    """The models of all roles. Raises ConfigError for an unknown provider or a role nothing is known about."""
    found = next((name for name, spec in PROVIDERS.items() if spec.key_variable and env.get(spec.key_variable)), "")
    here = _ollama_address(settings, env)
    return {name: _role_choice(name, settings, settings.roles.get(name), found, here) for name in ROLES}


def is_demo(settings: Settings, env: Mapping[str, str]) -> bool:
    """Whether what a sync finds would be found by the offline model. False where no model is known: others will say it."""
    try:
        return resolve(settings, env)["extract"].model.provider == OFFLINE
    except ConfigError:
        return False


def check_models(settings: Settings, env: Mapping[str, str]) -> dict[RoleName, RoleChoice]:
    """`resolve`, and every key that is needed is there. Raises ConfigError naming keys and ways out."""
    choices = resolve(settings, env)
    for name, choice in choices.items():
        for model in (choice.model, *choice.fallbacks):
            if model.key_variable and not env.get(model.key_variable):
                raise ConfigError(
                    f"no key for {model.provider!r} (role {name}): set {model.key_variable} in the environment or in "
                    "~/.lerim/.env, choose another provider with [roles] in config.toml, or LERIM_PROVIDER=offline"
                )
    return choices


def ollama_models(api_base: str, *, now_s: Callable[[], float] = time.monotonic) -> tuple[str, ...]:
    """The models an Ollama server on this machine has, none when nothing answers there.

    What was found holds for the process; where nothing answered is asked again soon, as it may be started any time.
    """
    known, until_s = _ollama.get(api_base, ((), 0.0))
    if not known and now_s() >= until_s:
        known = _ask_ollama(api_base)
        _ollama[api_base] = known, now_s() + _ABSENT_S
    return known


def _ask_ollama(api_base: str) -> tuple[str, ...]:
    if not api_base.startswith("http"):
        return ()
    # No proxy: what is asked is this machine.
    ask = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
    try:
        with ask(f"{api_base.removesuffix('/v1')}/api/tags", timeout=_PROBE_S) as answer:
            return tuple(one["name"] for one in json.load(answer)["models"])
    except (OSError, ValueError, KeyError, TypeError, HTTPException):
        return ()


def _ollama_address(settings: Settings, env: Mapping[str, str]) -> str:
    """Settings, then the variable Ollama itself reads, then its default port on this machine."""
    own = settings.providers.get("ollama")
    if own and own.api_base:
        return own.api_base
    if host := env.get("OLLAMA_HOST", "").strip():
        host = host if "//" in host else f"http://{host}"
        return f"{host.rstrip('/')}/v1"
    return PROVIDERS["ollama"].api_base


def _role_choice(name: RoleName, settings: Settings, role: Role, found: str, here: str) -> RoleChoice:
    provider = role.provider or ("openai" if role.api_base else found)
    if not provider and ollama_models(here):
        provider = "ollama"
    if not provider:
        keys = ", ".join(spec.key_variable for spec in PROVIDERS.values() if spec.key_variable)
        raise ConfigError(
            f"no model is configured: set one of {keys} in the environment or in ~/.lerim/.env, set [roles.{name}] "
            "provider and model in config.toml (ollama is found by itself when it runs), "
            "or try without a model: LERIM_PROVIDER=offline"
        )
    if provider == "ollama" and not role.api_base:
        role = msgspec.structs.replace(role, api_base=here, model=role.model or next(iter(ollama_models(here)), ""))
    model = _model(settings, role, name, provider, role.model, role.api_base)
    fallbacks = [_fallback(settings, role, name, provider, entry) for entry in role.fallback_models]
    return RoleChoice(name, model, fallbacks)


def _fallback(settings: Settings, role: Role, name: RoleName, provider: str, entry: str) -> ModelChoice:
    """`model` of the role's own provider, or `provider:model`; a colon inside a model's name is kept."""
    head, colon, rest = entry.partition(":")
    if colon and (head in PROVIDERS or head in settings.providers):
        same = head == provider
        return _model(settings, role, name, head, rest, role.api_base if same else "")
    return _model(settings, role, name, provider, entry, role.api_base)


def _model(settings: Settings, role: Role, name: RoleName, provider: str, model: str, api_base: str) -> ModelChoice:
    own = settings.providers.get(provider)
    base = api_base or (own.api_base if own else "")
    spec = PROVIDERS.get(provider)
    if spec is None and not base:
        raise ConfigError(
            f"roles.{name}: unknown provider {provider!r}; there are {', '.join(PROVIDERS)}, "
            f"or set api_base to any OpenAI-compatible address"
        )
    default = (spec.thinker if name in ("lead", "explorer") else spec.reader) if spec else ""
    if not (model or default):
        raise ConfigError(f"roles.{name}: provider {provider!r} needs a model: set roles.{name}.model")
    # A server of one's own seldom wants a key; where one is set it is sent all the same.
    key_variable = spec.key_variable if spec and not base else None
    return ModelChoice(provider, model or default, base or (spec.api_base if spec else ""), key_variable)
