"""Which pair, side and view reads which scored text? One file per tokenised data set, never replaced.

`decisions.parquet` of an audit holds text ids; the file that tells their pairs is named by the corpus digest in the
audit's meta.json, so that an audit of other data, views or lengths leaves the older ones readable.
"""

from pathlib import Path

from datamodules.corpus import AuditCorpus
from train.audit_setup import AuditSetup
from train.audited_data import AuditedData


def corpus_file_name(corpus: AuditCorpus, is_rewritten: bool = False) -> str:
    """Name of the file of a corpus."""
    return f"{corpus.data.name}{'-rewritten' if is_rewritten else ''}-{corpus.digest[:8]}.parquet"


def write_corpus_files(folder: Path, setup: AuditSetup) -> None:
    """Write the file of every corpus that is not there yet."""
    for audited in setup.audited:
        _write(folder, audited, is_rewritten=False)
        if audited.rewritten_data is not None:
            _write(folder, audited.rewritten_data, is_rewritten=True)


def _write(folder: Path, audited: AuditedData, is_rewritten: bool) -> None:
    path = folder / corpus_file_name(audited.corpus, is_rewritten)
    if not path.is_file():
        audited.corpus.write_index(path)
