"""`imprint export`: a checkpoint as a folder in Hugging Face layout, which loads without this project."""

from collections.abc import Sequence
from pathlib import Path

from experiments.parsing import command_parser
from train.export import Export, export_checkpoint


def run_export(arguments: Sequence[str]) -> int:
    """Run `imprint export`; see `imprint export --help`."""
    parser = command_parser("export", "Write a checkpoint in Hugging Face layout, with thresholds and a model card.")
    parser.add_argument(
        "--checkpoint", type=Path, required=True, help="Checkpoint file of a run, or the run directory for its best one"
    )
    parser.add_argument("--output", type=Path, required=True, help="Folder to write")
    parser.add_argument(
        "--run", type=Path | None, default=None, help="Run directory that wrote it; found beside the checkpoint"
    )
    parser.add_argument(
        "--thresholds", type=Path | None, default=None, help="Thresholds file in place of the run's own"
    )
    settings = parser.parse_args(list(arguments))
    export = export_checkpoint(settings.checkpoint, settings.output, settings.run, settings.thresholds)
    for line in report_lines(export):
        print(line)
    return 0


def report_lines(export: Export) -> list[str]:
    """Say how the folder is loaded, how it was checked, what its card lacks, and what is left to do."""
    how = export.stock_class or "AutoModelForSequenceClassification, with trust_remote_code=True"
    compared, run = export.comparison, export.run
    lines = [
        f"{export.folder} written of {export.checkpoint}; transformers loads it as {how}",
        f"checked: probabilities of {compared.n_texts} texts differ by at most {compared.difference:.1g} in float32",
        *export.notes,
    ]
    if export.left_out:
        lines.append(f"only the values of the main taxonomy are in it, not those of {', '.join(export.left_out)}")
    if run is None:
        lines.append("warning: no run directory beside the checkpoint (--run), so that the model card lacks its data")
    elif run.tested is None:
        lines.append("its run did not test this checkpoint: the model card has no metrics")
    if run is not None and run.audit is None:
        lines.append("its run has no finished audit of this checkpoint: the model card has no audit table")
    return [*lines, f"to fill in before publishing: licence and language, in {export.folder / 'README.md'}"]
