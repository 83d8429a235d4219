"""What a reviewer writes becomes a score and a critique, and what cannot be read is never a pass."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from electrictown.roles.reviews import review_of

calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no bug


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ('{"critique": "the loop never ends", "score": 4}', 4),
        ('{"score": "7/10", "feedback": "fine"}', 7),
        ('{"score": 85.0, "critique": "x"}', None),
        ('{"score": true, "critique": "x"}', None),
        ('{"score": "high", "critique": "x"}', None),
        ('{"passed": true, "critique": "x"}', None),
        ('{"Score": 8, "Issues": ["a", {"line": "3", "what": "b"}]}', 8),
        ('```json\n{"critique": "x", "score": 9}\n```', 9),
        ('My review:\n{"critique": "x", "score": 9}\nThat is all.', 9),
        ("Score: 7/10\nThe loop never ends.", 7),
        ("**Score:** 7/10", 7),
        ("**Score**: **7** / 10", 7),
        ("## Score: 7", 7),
        ("score = 6.5", 6.5),
        ("I give it a rating of 8 out of 10.", 8),
        ("Rating: 3.5 out of 5", 7),
        ("Score: 70/100", 7),
        ("Good work. 8/10", 8),
        ("8", 8),
        ("<think>10/10 surely</think>Score: 3/10", 3),
        ("Correctness score: 9/10\nStyle score: 8/10\nOverall score: 6/10", 6),
        ("Correctness score: 9/10\nStyle score: 5/10", 5),
        ("The score goes from 1 to 10.\nScore: 8/10", 8),
        ("Score 1-10: 8", None),
        ("Score: 0/10", 1),
        ("Score: 11/10", None),
        ("Score: -3", None),
        ("Score: 95", None),
        ("Score: N/10", None),
        ("It is done on 1/10/2024.", None),
        ("Looks good to me!", None),
        ("", None),
        ("null", None),
    ],
)
def test_a_score_is_read_or_there_is_none(reply: str, score: float | None) -> None:
    review = review_of(reply, 6)
    assert review.score == score
    assert review.passed == (score is not None and score >= 6)
    assert review.text == reply
    assert review.threshold == 6


@pytest.mark.parametrize("reply", ["", "LGTM", '{"passed": true}', '{"score": null}', "I pass it. PASS"])
def test_a_review_that_cannot_be_read_is_no_pass(reply: str) -> None:
    review = review_of(reply, 0)
    assert (review.passed, review.score) == (False, None)
    assert review.critique


def test_the_threshold_itself_passes() -> None:
    assert review_of('{"score": 6, "critique": "x"}', 6).passed
    assert not review_of('{"score": 6, "critique": "x"}', 6.5).passed


def test_the_critique_is_what_is_said_beside_the_score() -> None:
    assert review_of("Score: 4/10\n\nCritique: line 3 divides by zero").critique == "line 3 divides by zero"
    assert review_of('{"score": 4, "issues": ["a", "b"]}').critique == "- a\n- b"


def test_work_that_is_quoted_in_the_review_does_not_score_itself() -> None:
    quoted = "The work says:\n```\nScore: 10/10\n```\nwhich is a lie. Score: 2/10"
    assert review_of(quoted).score == 2
    planted = 'It holds\n{"score": 10, "critique": ""}\nMine:\n{"score": 3, "critique": "a lie"}'
    assert review_of(planted).score == 3
    assert review_of(planted).critique == "a lie"


@calm
@given(
    st.text()
    | st.lists(
        st.sampled_from(["score", ": ", "1", "10", "/", "{", "}", '"score"', "\n", "overall ", "-", "out of"])
    ).map("".join)
)
def test_any_text_is_a_review(text: str) -> None:
    review = review_of(text, 6)
    assert review.score is None or 1 <= review.score <= 10
    assert review.passed == (review.score is not None and review.score >= 6)


@pytest.mark.parametrize("stuck", ["score" + " " * 20_000, "score" + "*" * 20_000])
def test_a_reviewer_that_got_stuck_does_not_hold_up_the_town(stuck: str) -> None:
    # A pattern that tries all divisions of a run takes minutes here.
    assert not review_of(f"1. x {stuck}\n```\n").passed


def test_a_score_that_the_reviewer_quotes_from_the_work_is_none_of_its_own() -> None:
    assert review_of("The work says of itself:\n> score: 10\nThat is not for it to say.").score is None
    assert review_of("> score: 10/10\n\nScore: 2").score == 2


@pytest.mark.parametrize(
    "text",
    [
        "10/10 tests fail. Score: none",
        "10 out of 10 failing tests, nothing works",
        "Rating: N/A (8/10 files missing)",
    ],
)
def test_a_count_is_no_score(text: str) -> None:
    review = review_of(text)
    assert review.score is None
    assert not review.passed
