"""examples/deploy/dovetail-server.service as far as systemd-analyze checks it; nothing is started."""
import pathlib
import re
import subprocess
import tempfile
import unittest

UNIT = pathlib.Path(__file__).resolve().parents[2] / "examples/deploy/dovetail-server.service"


def analyze(*arguments, text=None):
    with tempfile.TemporaryDirectory() as folder:
        # `verify` wants the program to be there.
        unit = pathlib.Path(folder, UNIT.name)
        unit.write_text((text or UNIT.read_text()).replace("/usr/local/bin/dovetail-server", "/bin/true"))
        return subprocess.run(["systemd-analyze", *arguments, unit], capture_output=True, text=True)


class Unit(unittest.TestCase):
    def test_the_unit_is_valid(self):
        outcome = analyze("verify")
        self.assertEqual((outcome.returncode, outcome.stderr), (0, ""))
        self.assertIn("Unknown key", analyze("verify", text=UNIT.read_text().replace("UMask=", "UMusk=")).stderr)

    def test_the_program_sees_little_of_the_machine(self):
        said = analyze("security", "--offline=true").stdout
        self.assertLessEqual(float(re.search(r"exposure level for .*: ([\d.]+)", said)[1]), 2)
