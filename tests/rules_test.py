"""What a setting may hold, in words and as a test."""

import doctest

from care_jax import rules


def test_rules_say_what_they_test():
    cases = {
        rules.POSITIVE: ("it must be above 0", [1e-9, 1], [0, -1.0]),
        rules.SHARE: ("it must be at least 0 and at most 1", [0, 0.5, 1], [-0.1, 1.1]),
        rules.at_least(2): ("it must be at least 2", [2, 3.5], [1.9]),
        rules.one_of({"a": 1, "b": 2}): ("choose one of a, b", ["a", "b"], ["c", ""]),
        rules.ANY: ("", [None, 0, ""], []),
    }
    for rule, (text, good, bad) in cases.items():
        assert rule.text == text
        assert all(map(rule.holds, good)) and not any(map(rule.holds, bad))


def test_doctests():
    results = doctest.testmod(rules)
    assert results.attempted and not results.failed
