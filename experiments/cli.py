"""`imprint`: which verb, with which settings?"""

import importlib
import os
import re
import sys
from argparse import ArgumentError
from collections.abc import Sequence

from datamodules.errors import InputError

DESCRIPTION = "Train human-value classifiers of RLHF text and audit preference data with every checkpoint."
VERBS = {
    "fit": "train a classifier, audit every checkpoint",
    "ensemble": "average checkpoints: calibrated, tested and audited as one",
    "tune": "search settings for the best validation metric; resume, share or repeat a search",
    "audit": "audit what is pending in a run, or one checkpoint",
    "prevalence": "shares of values as published and corrected, and why they differ",
    "compare": "variants side by side on the same test texts, with intervals, costs and audits",
    "drift": "what moved between the checkpoints of a run, or between two runs",
    "score": "score texts of your own with a checkpoint",
    "gold": "draw texts for labelling by people, which correct audits",
    "export": "write a checkpoint in Hugging Face layout, with a model card",
    "reward": "fit a reward model, score pairs, regress rewards on features",
    "data": "list, fetch, check or describe data sets",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program's name; those of the process when left out.

    Returns:
        0 done, 2 bad input or usage (one message on standard error), 1 a failed audit, 130
        interrupted, 141 nobody reads the output any more. Other errors are raised.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except InputError as error:
        print(f"imprint: error: {error}", file=sys.stderr)
    except ArgumentError as error:
        print(f"imprint: error: {_usage_message(error)}", file=sys.stderr)
    except KeyboardInterrupt:
        print("imprint: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read the output has gone (`| head`): what is left to write, at exit too, goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 2


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        lines = [f"  {verb:<11}{text}" for verb, text in VERBS.items()]
        print(
            "\n".join(["usage: imprint VERB ...", "", DESCRIPTION, "", *lines, "", "imprint VERB --help tells more."])
        )
        return 0 if arguments else 2
    verb = arguments[0]
    if verb not in VERBS:
        raise InputError(f"verb {verb!r}", f"one of {', '.join(VERBS)}", "imprint --help")
    # Imported when called: torch and transformers take seconds, and `--help` should not wait for them.
    command = importlib.import_module(f"experiments.{verb}_command")
    code: int = getattr(command, f"run_{verb}")(arguments[1:])
    return code


def _usage_message(error: ArgumentError) -> str:
    """Turn a parser's message into one line that names the flag."""
    text = " ".join(str(error.message).split())
    text = re.sub(r'Parser key "([^"]+)":', r"--\1:", text)
    text = re.sub(r"Expected an? <class '(\w+)'>", r"expected \1", text)
    text = re.sub(r"Expected an? (?:typing\.)?Literal\[([^\]]*)\]", r"expected one of \1", text)
    if "expected list" in text:
        text += " (a list is written '[a,b]')"
    return f"{text}; imprint VERB --help lists the flags" if "nrecognized arguments" in text else text


if __name__ == "__main__":
    sys.exit(main())
