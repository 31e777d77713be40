import numpy as np
import pytest

from common.statistics import bootstrap_mean, share_of_teacher


def normal(mean: float, episodes: int, *, seed: int, deviation: float = 10.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, deviation, size=episodes)


def test_mean_and_interval_agree_with_the_normal_approximation_on_many_episodes():
    returns = normal(100, 400, seed=1)
    interval = bootstrap_mean(returns)
    half = 1.96 * returns.std() / np.sqrt(400)
    assert interval.mean == returns.mean()
    assert interval.episodes == 400
    assert interval.ci_low == pytest.approx(returns.mean() - half, abs=0.06 * half)
    assert interval.ci_high == pytest.approx(returns.mean() + half, abs=0.06 * half)


def test_interval_covers_the_true_mean_about_as_often_as_its_level_says():
    intervals = [
        bootstrap_mean(normal(5, 40, seed=seed), resamples=500, level=0.8) for seed in range(400)
    ]
    covered = np.mean([item.ci_low <= 5 <= item.ci_high for item in intervals])
    assert 0.72 < covered < 0.86


def test_same_seed_gives_the_same_interval_and_another_seed_another():
    returns = normal(0, 20, seed=2)
    assert bootstrap_mean(returns, seed=3) == bootstrap_mean(returns.tolist(), seed=3)
    assert bootstrap_mean(returns, seed=3) != bootstrap_mean(returns, seed=4)


def test_one_episode_is_its_own_interval():
    interval = bootstrap_mean([7.0])
    assert (interval.mean, interval.ci_low, interval.ci_high, interval.episodes) == (7, 7, 7, 1)


def test_more_episodes_than_a_block_of_draws_still_resample_each_mean():
    returns = np.tile([0.0, 1.0], 600_000)
    interval = bootstrap_mean(returns, resamples=20)
    assert interval.mean == 0.5
    assert 0.498 < interval.ci_low < interval.ci_high < 0.502


@pytest.mark.parametrize(
    ("returns", "message"),
    [
        ([], "at least 1"),
        ([[1.0, 2.0]], r"shape \(1, 2\)"),
        ([1.0, float("nan")], r"returns\[1\] is nan"),
        ([float("inf"), 1.0], r"returns\[0\] is inf"),
    ],
)
def test_returns_that_have_no_mean_are_refused(returns, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_mean(returns)


@pytest.mark.parametrize("bad", [{"resamples": 0}, {"level": 0.0}, {"level": 1.0}, {"level": 95}])
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        bootstrap_mean([1.0, 2.0], **bad)


def test_share_of_constant_returns_is_exact():
    share = share_of_teacher([15.0] * 3, [20.0] * 3, [-20.0] * 3)
    assert share is not None
    assert (share.share, share.ci_low, share.ci_high) == (0.875, 0.875, 0.875)


def test_share_may_pass_one_and_fall_below_zero():
    better = share_of_teacher([30.0], [20.0], [10.0])
    worse = share_of_teacher([0.0], [20.0], [10.0])
    assert better is not None
    assert worse is not None
    assert (better.share, worse.share) == (2.0, -1.0)


def test_share_interval_agrees_with_the_delta_method():
    student = normal(95, 300, seed=5)
    teacher = normal(105, 200, seed=6)
    random = normal(5, 100, seed=7)
    interval = share_of_teacher(student, teacher, random)
    assert interval is not None
    gap = teacher.mean() - random.mean()
    share = (student.mean() - random.mean()) / gap
    variance = (
        student.var() / 300 + share**2 * teacher.var() / 200 + (1 - share) ** 2 * random.var() / 100
    ) / gap**2
    half = 1.96 * np.sqrt(variance)
    assert interval.share == pytest.approx(share, rel=1e-12)
    assert interval.ci_low == pytest.approx(share - half, abs=0.08 * half)
    assert interval.ci_high == pytest.approx(share + half, abs=0.08 * half)


@pytest.mark.parametrize("noisy", ["student", "teacher", "random"])
def test_each_of_the_three_is_resampled(noisy):
    returns = {"student": [50.0] * 10, "teacher": [100.0] * 10, "random": [0.0] * 10}
    returns[noisy] = (np.array(returns[noisy]) + normal(0, 10, seed=8)).tolist()
    interval = share_of_teacher(returns["student"], returns["teacher"], returns["random"])
    assert interval is not None
    assert interval.ci_low < interval.share < interval.ci_high


@pytest.mark.parametrize(
    ("teacher", "random"),
    [
        ([10.0, 12.0], [20.0, 22.0]),
        ([5.0, 5.0], [5.0, 5.0]),
        ([0.0], [0.0]),
        ([0.1 + 0.2], [0.3]),
        ([-20.0, 22.0] * 5, [-20.0, 20.0] * 5),
    ],
    ids=["worse", "equal", "zero", "rounding", "within the noise"],
)
def test_no_share_where_the_teacher_is_not_measurably_better_than_random_play(teacher, random):
    assert share_of_teacher([10.0, 11.0], teacher, random) is None


def test_share_stays_finite_when_the_teacher_is_only_just_measurably_better():
    rng = np.random.default_rng(11)
    found = [
        share_of_teacher(
            rng.normal(5, 10, 12), rng.normal(9, 10, 12), rng.normal(0, 10, 12), resamples=1000
        )
        for _ in range(60)
    ]
    shares = [item for item in found if item is not None]
    assert 0 < len(shares) < len(found)
    for item in shares:
        assert np.isfinite([item.share, item.ci_low, item.ci_high]).all()
        assert item.ci_low <= item.share <= item.ci_high


def test_resamples_without_a_gap_are_left_out():
    # About one resample in 600 draws five losses or more, so that the teacher gains nothing.
    interval = share_of_teacher([0.4] * 10, [1.0] * 9 + [-1.0], [0.0] * 10)
    assert interval is not None
    assert (interval.share, interval.ci_low, interval.ci_high) == pytest.approx((0.5, 0.4, 1.0))


def test_share_names_the_returns_that_are_wrong():
    with pytest.raises(ValueError, match="teacher_returns has shape"):
        share_of_teacher([1.0], [], [1.0])
