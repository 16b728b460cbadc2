"""What did the audit of hh-rlhf say of the quality of responses, and to which texts does it belong?

A row of its file is a pair of hh-rlhf's harmless split: `prompt` (the dialogue up to "Assistant:"), `chosen_response`,
`rejected_response`, and one verdict in `lablej`, a column name as published. Nothing in the file says which text the
verdict is about. It is the chosen response, read as the answer to the prompt: the paper's question is what the data
call harmless, and the verdict can be told from the chosen response (5-fold macro-F1 .53, by counted words), but hardly
from the prompt (.37) or the rejected one (.39).
"""

from pathlib import Path

from datamodules.annotated_text import AnnotatedText
from datamodules.annotation_labels import require_sign
from datamodules.annotation_tally import AnnotationTally
from datamodules.dialogue import DialogueError, normalise, parse_hh
from datamodules.encoding_repair import repaired
from datamodules.read_report import ReadReport
from datamodules.tabular import cell_text, read_csv
from datamodules.taxonomy import Taxonomy

COLUMNS = ("prompt", "chosen_response", "lablej")
REPAIRED = "decoded again (UTF-8 once read with another encoding)"
PROMPTS_REPAIRED, RESPONSES_REPAIRED = f"prompts {REPAIRED}", f"responses {REPAIRED}"
LABELLED_AGAIN = "responses labelled a second time"
NO_AGREEMENT = f"{LABELLED_AGAIN} (so no agreement of annotators can be told)"


def read_hh_quality(path: Path, taxonomy: Taxonomy, fix: str) -> tuple[tuple[AnnotatedText, ...], ReadReport]:
    """Read the second pass of labels: the verdict holds, the other labels of the taxonomy do not.

    * Rows without a verdict, and with one that the taxonomy does not know, are dropped and counted.
    * Prompt and response are decoded again, each by itself and only where it is damaged; counted over the kept rows.
    * The text is the canonical rendering of prompt and chosen response, the group its first human turn, so that rows of
      one prompt, and dialogues of one opening, stay on one side of a split.
    * Each response was labelled once; where rows share prompt and response, all are kept, and `repeated texts` of the
      report tells how many agree.

    Args:
        path: The csv file.
        taxonomy: What the labels mean.
        fix: The setting that names the file; becomes the `fix` of errors.

    Raises:
        InputError: Unreadable file, missing columns, nothing to keep, or a signed taxonomy.
    """
    require_sign(taxonomy, signed=False, layout="hh-quality")
    table = read_csv(path, fix)
    table.require(COLUMNS, fix)
    tally = AnnotationTally("hh-quality", taxonomy, [path], len(table.rows), has_own_ids=True, fix=fix)
    seen: set[str] = set()
    n_repaired, n_again = [0, 0], 0
    for number, row in enumerate(table.rows, 1):
        label, prompt, response = (cell_text(row[name]) for name in ("lablej", "prompt", "chosen_response"))
        slug = taxonomy.resolve(label)
        if not label:
            tally.drop("not labelled")
        elif slug is None:
            tally.unknown_labels[label] += 1
            tally.drop("unknown label")
        else:
            fields = repaired(prompt), repaired(response)
            text = _dialogue(*fields)
            if text is None:
                tally.drop("no dialogue of Human and Assistant")
                continue
            tally.keep(number, f"hh-quality-{number}", text, [int(other == slug) for other in taxonomy.slugs])
            n_repaired = [n + (new != old) for n, new, old in zip(n_repaired, fields, (prompt, response), strict=True)]
            n_again += normalise(text) in seen
            seen.add(normalise(text))
    # Told where they are 0, too.
    tally.notes.update(dict(zip((PROMPTS_REPAIRED, RESPONSES_REPAIRED), n_repaired, strict=True)))
    tally.notes.update({LABELLED_AGAIN if n_again else NO_AGREEMENT: n_again})
    return tally.finish()


def _dialogue(prompt: str, response: str) -> str | None:
    """Return the canonical rendering of prompt and response; None where they are no dialogue."""
    try:
        return parse_hh(f"{prompt} {response}").render()
    except DialogueError:
        return None
