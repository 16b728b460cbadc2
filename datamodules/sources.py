"""Where does each data set come from, under which licence, and where does it lie under the data root?

Nothing is copied from upstream into this project, nothing is converted: what is downloaded is what lies in the root.
Commits and digests that stand here were measured on the files or are the ones that others measured; what has none is
resolved by the first fetch and kept in `sources.lock`.
"""

import re
from dataclasses import dataclass
from typing import Literal

from datamodules.annotations import FULCRA_FILE, HH_QUALITY_FILE, VALUE_IMPRINT_FILE, VALUEEVAL_FOLDER
from datamodules.errors import InputError
from datamodules.preferences import SUBSETS

HostName = Literal["hub", "github", "zenodo", "openai"]
Split = Literal["all", "train", "test"]


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a data set.

    Attributes:
        upstream: Its path upstream.
        path: Its path under the data root, with slashes.
        split: The split that it holds; empty where a data set is one piece.
        digest: `sha256:..` or `git-sha1:..` (of a git blob) where known beforehand, else empty.
    """

    upstream: str
    path: str
    split: Literal["train", "test", ""] = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """Where one data set comes from.

    Attributes:
        name: Name of the data set, as in `imprint data list`.
        host: Who serves it.
        repository: Repository, record or container there.
        revision: A commit or a record's number, which never change, or a branch; empty where a host keeps one version.
        files: What is downloaded.
        licence: As stated upstream; empty where none is.
        terms: A sentence about what the licence restricts or leaves open; empty where there is nothing to add.
        citation: Whom to cite.
    """

    name: str
    host: HostName
    repository: str
    revision: str
    files: tuple[SourceFile, ...]
    licence: str
    terms: str
    citation: str

    @property
    def is_pinned(self) -> bool:
        """Whether the revision stands for the same content for ever."""
        return self.host == "zenodo" or re.fullmatch(r"[0-9a-f]{40}", self.revision) is not None


NON_COMMERCIAL = "Use is restricted: not for commercial purposes, and models trained on it are meant for research only."
NONE_STATED = "Upstream states no licence: ask the authors before you pass the data or parts of it on."

_XSTEST_COMPLETIONS = {
    "gpt4": "71af323af8ecdec0efae23992317721441d2cfedddedeef3248f842f4e15c9ca",
    "llama2orig": "cbc52550e8ba8197a3e3d97a5af078d27bae4766737cd62df80270126a87ffc6",
}

_ALL = (
    Source(
        name="value-imprint",
        host="github",
        repository="ikeobimummc/value_imprint_rlhf",
        revision="f8d281fa09f74ee402746ad8854f76620474dd3c",
        files=(
            SourceFile(
                "dataset/human_values_annotation_groundtruth.csv",
                VALUE_IMPRINT_FILE.as_posix(),
                digest="git-sha1:d3e23460f55f865a9c12937e271022114d7e859f",
            ),
        ),
        licence="CC BY 4.0",
        terms="",
        citation="Obi, Pant, Agrawal, Ghazanfar, Basiletti: Value Imprint. NeurIPS 2024. arXiv:2411.11937",
    ),
    Source(
        name="fulcra",
        host="github",
        repository="microsoft/ValueCompass",
        revision="main",
        files=(SourceFile("Value_FULCRA/data/trustworthy_data.jsonl", FULCRA_FILE.as_posix()),),
        licence="MIT",
        terms="",
        citation="Yao, Yi, Gong, Wang, Xie: Value FULCRA. NAACL 2024. arXiv:2311.10766",
    ),
    Source(
        name="valueeval",
        host="zenodo",
        repository="Touché23-ValueEval",
        revision="10564870",
        files=tuple(
            SourceFile(f"{kind}-{part}.tsv", f"{VALUEEVAL_FOLDER.as_posix()}/{kind}-{part}.tsv")
            for part in ("training", "validation")
            for kind in ("arguments", "labels")
        ),
        licence="CC BY 4.0",
        terms="That is what its authors state on the hub; other pages of theirs are reported to say CC BY-SA 4.0.",
        citation="Mirzakhmedova et al.: The Touché23-ValueEval Dataset. LREC-COLING 2024. arXiv:2301.13771",
    ),
    Source(
        name="hh-quality",
        host="github",
        repository="j-c-carr/auditing-the-helpful-and-harmless-dataset",
        revision="main",
        files=(SourceFile(f"dataset_audit/{HH_QUALITY_FILE.name}", HH_QUALITY_FILE.as_posix()),),
        licence="",
        terms=f"{NONE_STATED} The dialogues hold offensive and upsetting text.",
        citation="Chehbouni, Carr, More, Cheung, Farnadi: Beyond the Safety Bundle. NAACL 2025. arXiv:2411.08243",
    ),
    Source(
        name="hh-rlhf",
        host="hub",
        repository="Anthropic/hh-rlhf",
        revision="main",
        files=tuple(
            SourceFile(f"{subset}/{split}.jsonl.gz", f"hh-rlhf/{subset}/{split}.jsonl.gz", split)
            for subset in SUBSETS
            for split in ("test", "train")
        ),
        licence="MIT",
        terms="The dialogues hold offensive and upsetting text.",
        citation="Bai et al.: Training a Helpful and Harmless Assistant with RLHF. 2022. arXiv:2204.05862",
    ),
    Source(
        # The hub's openai/webgpt_comparisons holds no data: its loading script downloads this very file.
        name="webgpt",
        host="openai",
        repository="webgpt-answer-viewer",
        revision="",
        files=(SourceFile("comparisons.jsonl", "webgpt/comparisons.jsonl"),),
        licence="",
        terms=NONE_STATED,
        citation="Nakano et al.: WebGPT. 2021. arXiv:2112.09332",
    ),
    Source(
        name="alpaca-gpt4",
        host="github",
        repository="Instruction-Tuning-with-GPT-4/GPT-4-LLM",
        revision="main",
        files=(SourceFile("data/comparison_data_v2.json", "alpaca-gpt4/comparison_data_v2.json"),),
        licence="CC BY-NC 4.0",
        terms=NON_COMMERCIAL,
        citation="Peng, Li, He, Galley, Gao: Instruction Tuning with GPT-4. 2023. arXiv:2304.03277",
    ),
    Source(
        name="xstest",
        host="github",
        repository="paul-rottger/xstest",
        revision="d7bb5bd738c1fcbc36edd83d5e7d1b71a3e2d84d",
        files=(
            SourceFile(
                "xstest_prompts.csv",
                "xstest/xstest_prompts.csv",
                digest="sha256:11783fb294ed017473ee53c207d71f2161c7672c8d0b037501e78387f801cb5a",
            ),
            *(
                SourceFile(
                    f"model_completions/xstest_v2_completions_{model}.csv",
                    f"xstest/xstest_v2_completions_{model}.csv",
                    digest=f"sha256:{digest}",
                )
                for model, digest in _XSTEST_COMPLETIONS.items()
            ),
        ),
        licence="CC BY 4.0",
        terms="That is the prompts' licence; the completions are subject to the terms of the models' makers.",
        citation="Röttger, Kirk, Vidgen, Attanasio, Bianchi, Hovy: XSTest. NAACL 2024. arXiv:2308.01263",
    ),
)
SOURCES = {source.name: source for source in _ALL}


def source_named(name: str) -> Source:
    """Return the source of a data set.

    Raises:
        InputError: No data set of this name can be fetched.
    """
    if name not in SOURCES:
        raise InputError(
            f"data set {name!r}", f"one of {', '.join(SOURCES)}", "imprint data fetch lists what can be fetched"
        )
    return SOURCES[name]


def files_of_split(source: Source, split: Split) -> tuple[SourceFile, ...]:
    """Return the files of one split, or all.

    Raises:
        InputError: A split of a data set that ships none.
    """
    if split == "all":
        return source.files
    chosen = tuple(file for file in source.files if file.split == split)
    if not chosen:
        divided = ", ".join(name for name, other in SOURCES.items() if any(file.split for file in other.files))
        raise InputError(
            f"--split {split} of {source.name}", f"a data set that ships splits ({divided})", "drop --split"
        )
    return chosen
