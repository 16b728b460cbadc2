"""`imprint reward fit | score | regress`: train a reward model, score pairs, regress rewards on features."""

from collections.abc import Sequence

from datamodules.errors import InputError

USAGE = "usage: imprint reward fit [--config FILE] | score --scorer NAME --datasets NAME .. | regress --scores FILE .."


def run_reward(arguments: Sequence[str]) -> int:
    """Run `imprint reward`; see `imprint reward --help`."""
    # Imported when called: regressing numbers should not wait for torch.
    match list(arguments[:1]):
        case ["fit"]:
            from experiments.reward_fit_command import run_reward_fit

            return run_reward_fit(arguments[1:])
        case ["score"]:
            from experiments.reward_score_command import run_reward_score

            return run_reward_score(arguments[1:])
        case ["regress"]:
            from experiments.reward_regress_command import run_reward_regress

            return run_reward_regress(arguments[1:])
        case ["-h" | "--help"]:
            print(USAGE)
            return 0
        case other:
            found = f"imprint reward {' '.join(other)}".strip()
            raise InputError(found, "fit, score or regress", "imprint reward --help")
