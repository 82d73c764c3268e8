"""Everything that can go wrong, as one small tree.

Each message says what was wrong, where, and what to do next. Only `ImageRejected` concerns a
single image and is turned into a row of the rejects table; every other error ends the command
with exit code 2.
"""

from __future__ import annotations


class MammographyError(Exception):
    """The command cannot run; the message is what the user reads."""


class UsageError(MammographyError):
    """Options that are wrong, or that contradict each other."""


class LabelTableError(MammographyError):
    """A label table that cannot be read or understood as a whole."""


class NothingLeftError(MammographyError):
    """No image survived, so there is nothing to compute."""


class WeightsError(MammographyError):
    """A weight file that is not what the encoder needs."""


class WeightsUnavailableError(WeightsError):
    """Weights that would have to be downloaded and cannot be."""


class SplitError(MammographyError):
    """A split of images that cannot be made, cannot be read, or leaks."""


class StoreError(MammographyError):
    """An output folder that holds something else than this command would continue."""


class MissingExtraError(MammographyError):
    """An optional dependency that this option needs and that is not installed."""


class PluginError(MammographyError):
    """A plugin that failed to load, or a name that no plugin answers to."""


class ImageRejected(MammographyError):  # noqa: N818  (a verdict on one image, not a failure of ours)
    """One file cannot be used as an image.

    Attributes:
        code: One of `mammography.vocabulary.RejectCode`'s values.
        reason: One sentence for a person; never contains a patient's name or birth date.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return self.reason
