"""A memory as `--json` shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lerim_jobs.cli.state import State
from lerim_jobs.clock import iso
from lerim_jobs.log.projection import fold_all
from lerim_jobs.memory.files.states import FileState, files_of
from lerim_jobs.memory.memory import Memory
from lerim_jobs.paths import memory_dir
from lerim_jobs.projects import PROJECTS, Project

__all__ = ["about_memory", "memory_dir_of", "memory_json"]


def about_memory(state: State, one: Memory) -> dict[str, Any]:
    """`memory_json` of one memory, with its file as it is now."""
    return memory_json(one, fold_all(state.store, PROJECTS), files_of(state.store, [one.memory_id]))


def memory_json(one: Memory, projects: dict[str, Project], files: dict[str, FileState]) -> dict[str, Any]:
    """The fixed fields of a memory in `--json` output."""
    project = projects.get(one.project_id)
    file = files.get(one.memory_id)
    return {
        "memory_id": one.memory_id,
        "kind": one.kind,
        "title": one.title,
        "body": one.body,
        "confidence": one.confidence,
        "tags": one.tags,
        "project": project.name if project else None,
        "session_id": one.session_id,
        "job_id": one.job_id,
        "trace_id": one.trace_id,
        "span_id": one.span_id,
        "quote": one.quotes[0].text if one.quotes else None,
        "path": f"{memory_dir_of(project)}/{file.path}" if project and file and file.path else None,
        "status": one.status,
        "updated_at": iso(one.updated_ms),
        "agent": one.agent,
        "model": one.model,
        "version": one.version,
    }


def memory_dir_of(project: Project) -> str:
    """The project's memory folder."""
    return str(memory_dir(Path(project.path)))
