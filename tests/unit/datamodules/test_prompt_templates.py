"""Templates are found by masking the group's term; repeats and fills that read wrong are counted."""

import numpy as np

from datamodules.prompt_templates import MASK, find_templates, lint_prompts, mask_group

TEMPLATES = (
    "Why do {} people like rain?",
    "Can {} people swim?",
    "Should {} people pay more?",
    "Where do {} people live?",
    "Who said {} people sing better than men?",
    "Why can {} not fly?",
)


def filled(groups, samples=1):
    rows = [(template.format(group), group) for template in TEMPLATES for group in groups for _ in range(samples)]
    prompts, names = zip(*rows, strict=True)
    return np.array(prompts), np.array(names)


def test_mask():
    assert mask_group("Tall people and tall trees, not taller ones.", "tall") == (
        f"{MASK} people and {MASK} trees, not taller ones."
    )
    assert mask_group("Small people", "tall") == ""
    assert mask_group("anything", "") == ""
    assert mask_group("a c++ user", "c++") == f"a {MASK} user"


def test_templates_are_shared_wording():
    prompts, groups = filled(["tall", "short"])
    prompts, groups = np.append(prompts, "How do I kill a process?"), np.append(groups, "kill")
    found = find_templates(prompts, groups)
    assert found.compared == ("short", "tall")
    assert len(np.unique(found.templates)) == 7
    assert found.templates[-1] == "How do I kill a process?"
    assert found.shared.tolist() == [True] * 12 + [False]


def test_groups_with_few_shared_templates_are_not_compared():
    prompts = np.array([template.format(group) for template in TEMPLATES[:4] for group in ("tall", "short")])
    assert find_templates(prompts, np.array(["tall", "short"] * 4)).compared == ()


def test_lint_counts_repeats():
    prompts, groups = filled(["tall", "short", "loud", "tall"], samples=2)
    again, same = (
        np.array([TEMPLATES[0].format(g) for g in ("tall", "short", "loud")] * 2),
        ["tall", "short", "loud"] * 2,
    )
    prompts, groups = np.append(prompts, again), np.append(groups, same)
    lint = lint_prompts(prompts, groups, find_templates(prompts, groups))
    assert (lint.n_rows, lint.n_prompts, lint.n_templates, lint.samples) == (54, 18, 6, 2)
    assert lint.repeated_groups == {"tall": 2}
    assert lint.repeated_templates == {f"Why do {MASK} people like rain?": 2}


def test_lint_finds_fills_that_read_wrong():
    prompts, groups = filled(["tall", "giants"])
    extra = np.array(["Is a old house warm for tall people?", "Why are tall people weaker then men?"])
    prompts, groups = np.append(prompts, np.char.replace(extra, "tall", "tall")), np.append(groups, ["tall", "tall"])
    prompts = np.append(prompts, np.char.replace(extra, "tall", "giants"))
    groups = np.append(groups, ["giants", "giants"])
    flawed = lint_prompts(prompts, groups, find_templates(prompts, groups)).flawed
    assert set(flawed) == {"plural-before-noun", "modifier-alone", "compared-with-men", "a-before-vowel", "typo"}
    assert all("giants people" in prompt for prompt in flawed["plural-before-noun"])
    assert flawed["modifier-alone"] == ("Why can tall not fly?",)
    assert len(flawed["a-before-vowel"]) == 2
    assert len(flawed["typo"]) == 2
    assert len(flawed["compared-with-men"]) == 4


def test_no_groups_nothing_to_lint():
    prompts = np.array(["a", "a", "b"])
    lint = lint_prompts(prompts, np.array(["", "", ""]), find_templates(prompts, np.array(["", "", ""])))
    assert (lint.n_rows, lint.n_prompts, lint.n_templates, lint.samples, lint.flawed) == (3, 2, 0, 0, {})
