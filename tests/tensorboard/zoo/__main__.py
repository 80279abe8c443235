"""Run all trainings, or those named, and print what the diagnosis says of each and of each part.

    python -m tests.tensorboard.zoo [--keep FOLDER] [NAME ...]

With ``--keep`` runs stay in FOLDER, and what is there is judged again without a training.
"""

import argparse
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from . import BROKEN, HEALTHY, PARTS
from .judged import Verdict, judged, trained


def verdict(name: str, keep: Path) -> Verdict:
    training = (HEALTHY | BROKEN)[name]
    if not (keep / name / "done").exists():
        trained(training, keep / name)
    return judged(training, keep / name)


def main() -> None:
    parser = argparse.ArgumentParser(prog="zoo")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    names = options.names or [*HEALTHY, *BROKEN]
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(2) as pool:
        keep = options.keep or Path(folder)
        verdicts = []
        for each in pool.map(verdict, names, [keep] * len(names)):
            verdicts.append(each)
            if each.says:
                print(each.says, flush=True)
    for kind, trainings in (("healthy", HEALTHY), ("broken", BROKEN)):
        for part in PARTS:
            found = [
                each.word
                for each in verdicts
                if each.name in trainings and trainings[each.name].part == part
            ]
            counts = {word: found.count(word) for word in dict.fromkeys(sorted(found))}
            print(f"{kind}, {part}: {len(found)} {counts}")


if __name__ == "__main__":
    main()
