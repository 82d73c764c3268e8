"""What a run leaves behind so that its numbers can be traced: config, versions, commit, log."""

from mammography.runs.files import (
    canonical_json,
    sha256_of_file,
    sha256_of_text,
    write_json,
    write_text,
    written_whole,
)
from mammography.runs.folder import run_folder
from mammography.runs.identity import pseudonym
from mammography.runs.provenance import (
    RESEARCH_ONLY,
    config_of,
    git_commit,
    versions,
    write_summary,
)

__all__ = [
    "RESEARCH_ONLY",
    "canonical_json",
    "config_of",
    "git_commit",
    "pseudonym",
    "run_folder",
    "sha256_of_file",
    "sha256_of_text",
    "versions",
    "write_json",
    "write_summary",
    "write_text",
    "written_whole",
]
