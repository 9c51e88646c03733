"""How long a newcomer needs from the clone to a personal recommendation: `python -m benchmarks.newcomer`.

Runs the commands of README's first session, word for word, in an empty folder: the repository is cloned, the packages
are installed into a new virtual environment, a model is trained and judged, a server answers. Each output that README shows must
come. The bars are 300 seconds, six commands and README's first 60 lines. The port 8000 must be free. TORCH_INDEX of the environment
chooses the packages of torch, as README says.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.report import hardware, skip, skip_without, write_result
from benchmarks.shell_session import Block, Ran, ShellSession, keeps_promise, section_with

README = Path(__file__).parents[1] / "README.md"
MOST_SECONDS, MOST_COMMANDS, LAST_LINE = 300, 6, 60
PORT = 8000
OURS = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "PREFECT_API_URL", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")
"""Variables of this process that a newcomer does not have."""


class UnlikeReadmeError(Exception):
    """A command of README failed, or its output is not what README shows."""


def main() -> None:
    """Run the session, print the seconds of each command, and write the result. Exits with 1 if README does not keep its word."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", default=str(README.parent), help="what is cloned; by default, this checkout")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/newcomer.json"))
    given = parser.parse_args()
    skip_without("git", "make", "curl")
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", PORT)) == 0:
            skip(f"the port {PORT}, which README's server uses, is in use.")
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="recsys-newcomer-") as folder:
        try:
            steps = first_session(README.read_text(encoding="utf-8"), given.repository, Path(folder))
        except UnlikeReadmeError as error:
            sys.exit(f"README's first session does not work: {error}")
    result = summary(steps) | {"hardware": hardware() | {"load_1_min": round(load, 2)}}
    write_result(given.out, result)
    print(f"{result['seconds']:.0f} s and {result['commands']} commands to a personal recommendation")
    if result["seconds"] > MOST_SECONDS:
        sys.exit(f"The session took {result['seconds']:.0f} s. The bar is {MOST_SECONDS} s.")


def first_session(readme: str, repository: str, folder: Path) -> list[Ran]:
    """Run README's first session in an empty folder, and return what was run.

    Args:
        readme: The text of README.
        repository: What `git clone "$REPOSITORY"` clones.
        folder: An empty folder.

    Raises:
        UnlikeReadmeError: The session is too long, a command fails, an output differs, or the last answer is not personal.
    """
    blocks = section_with(readme, "git clone")
    commands = commands_of(blocks)
    environment = {name: value for name, value in os.environ.items() if name not in OURS and not name.startswith("RECSYS__")}
    environment |= {"REPOSITORY": repository, "PREFECT_HOME": str(folder / "prefect")}
    steps: list[Ran] = []
    with ShellSession(folder, environment) as shell:
        for before, block in zip([None, *blocks], blocks, strict=False):
            if block.language == "sh":
                outputs = []
                for command in block.commands:
                    print(f"$ {command}", file=sys.stderr, flush=True)
                    steps.append(shell.run(command))
                    print(f"  {steps[-1].seconds:.1f} s", file=sys.stderr, flush=True)
                    if steps[-1].status:
                        raise UnlikeReadmeError(f"`{command}` exits with {steps[-1].status}: {steps[-1].output[-2000:]}")
                    outputs.append(steps[-1].output)
            elif before is not None and before.language == "sh" and not keeps_promise(block, "\n".join(outputs)):
                raise UnlikeReadmeError(f"README shows\n{block.text}\nbut the commands print\n{outputs[-1][-2000:]}")
    if len(steps) != len(commands) or not any(_is_personal(step) for step in steps):
        raise UnlikeReadmeError("no answer is a personal recommendation")
    return steps


def commands_of(blocks: list[Block]) -> list[str]:
    """Return the commands of the session. Raises UnlikeReadmeError if they are too many, or end too far down."""
    shells = [block for block in blocks if block.language == "sh"]
    commands = [command for block in shells for command in block.commands]
    if len(commands) > MOST_COMMANDS or shells[-1].last_line > LAST_LINE:
        raise UnlikeReadmeError(
            f"it has {len(commands)} commands and ends on line {shells[-1].last_line}: at most {MOST_COMMANDS} and {LAST_LINE} are allowed"
        )
    return commands


def _is_personal(step: Ran) -> bool:
    if "/v1/recommendations" not in step.command:
        return False
    answer: dict[str, Any] = json.loads(step.output[step.output.index("{") :])
    return bool(answer["items"]) and answer["events"] > 0 and answer["source"] != "cold"


def summary(steps: list[Ran]) -> dict[str, Any]:
    """Return the result: the seconds of each command, and until the first personal answer."""
    first = next(number for number, step in enumerate(steps) if _is_personal(step))
    return {
        "data": "ml-100k",
        "steps": [{"command": step.command, "seconds": round(step.seconds, 1)} for step in steps],
        "commands": first + 1,
        "seconds": round(sum(step.seconds for step in steps[: first + 1]), 1),
    }


if __name__ == "__main__":
    main()
