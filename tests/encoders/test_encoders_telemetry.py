"""OpenVINO's usage reports are off: a hospital's machine sends nothing anywhere."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("openvino")

_SHOW_TELEMETRY = """
import mammography.encoders.openvino_backend
import openvino.tools.ovc.telemetry_utils as utils
print(utils.tm.__name__)
"""


def test_openvino_uses_the_stub_in_place_of_its_telemetry() -> None:
    told = subprocess.run(
        [sys.executable, "-c", _SHOW_TELEMETRY], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "openvino.tools.ovc.telemetry_stub"
