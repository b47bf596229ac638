"""The table of scripts/gpu-check, and its file."""
import json
import sys
from dataclasses import asdict, dataclass


# Characters of a failing command's output.
SHOWN = 4000


@dataclass
class Row:
    """A line of the table. Only a check can fail the program."""

    part: str
    what: str
    figure: str
    bar: str = ""
    met: bool = None
    check: bool = False

    def cells(self):
        return [self.what, self.figure, self.bar, {True: "yes", False: "NO", None: ""}[self.met]]


class Report:
    """The table, printed as it grows, and the file."""

    def __init__(self, path, about):
        self.path, self.about = path, about
        self.rows, self.raw, self.part = [], [], None
        print("| what | figure | bar | met |\n| --- | --- | --- | --- |", flush=True)

    def add(self, what, figure, bar="", met=None, check=False):
        clean = str(figure).replace("|", "/").replace("\n", " ")
        self.rows.append(Row(self.part, what, clean, bar, met, check))
        print("| " + " | ".join(self.rows[-1].cells()) + " |", flush=True)

    def check(self, what, figure, met, bar=""):
        self.add(what, figure, bar, bool(met), check=True)

    def at_most(self, what, value, most, unit, digits=1):
        self.add(what, f"{value:.{digits}f} {unit}", f"≤ {most} {unit}", value <= most)

    def at_least(self, what, value, least, unit, digits=2):
        self.add(what, f"{value:.{digits}f} {unit}", f"≥ {least} {unit}", value >= least)

    def keep(self, command, output):
        """What a command said of failures: all of it goes to the file, and its beginning to standard error."""
        self.raw.append({"command": command, "output": output})
        print(f"{command}:\n{output[:SHOWN]}{' …' if len(output) > SHOWN else ''}", file=sys.stderr)

    def failed(self):
        return [row for row in self.rows if row.check and not row.met]

    def save(self):
        if self.path:
            rows = [asdict(row) for row in self.rows]
            text = json.dumps({**self.about, "rows": rows, "raw": self.raw}, indent=1, ensure_ascii=False)
            self.path.write_text(text + "\n")
