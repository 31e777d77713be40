"""Writes an export, asks it in its runtime what its policy is asked, and lets it play."""

from actors.evaluator import EvaluationResult
from cluster.exports.observations import Seen, num_wanted, see
from cluster.exports.scores import Cost, ExportScores, Played, play
from cluster.exports.source import Source
from common.errors import ConfigError, UserError
from common.policies.inference import InferencePolicy
from common.policies.policy import Policy
from common.storage import Location
from learners.export import EXPORT_FORMATS, Precision, Run, compare, latency_ms, run_policy

Games = tuple[EvaluationResult, EvaluationResult]
"""Of the policy, and of random actions."""


def export_checked(
    source: Source,
    format: str,
    precision: Precision,
    target: Location,
    *,
    calibration: str | None,
    num_episodes: int | None,
) -> ExportScores:
    """Write a policy, and find out what the file is like.

    Args:
        source: the policy.
        format: of `EXPORT_FORMATS`.
        precision: that the format has.
        target: where to write.
        calibration: a dataset with real observations, where one was named.
        num_episodes: to play; None: as many as the run's evaluation had.

    Raises:
        UserError: the format cannot express the policy, what was asked for cannot be done, or the
            file cannot be written.
    """
    chosen, policy = EXPORT_FORMATS[format], source.policy
    if num_episodes or source.scene.is_named:
        _check_that_it_plays(source, num_episodes)
    is_int8, most, named = precision == "int8", chosen.num_calibration, None
    if calibration is not None:
        named = see(source, calibration=calibration, played=None, num_calibration=most)
    if not is_int8:  # which waits for observations
        written = chosen.write(policy, target, precision, None)
    lack = chosen.lacks()
    games = None if lack else _games(source, num_episodes, num_wanted(source, most))
    seen, reason = _seen(source, named, games, most, are_needed=is_int8)
    if is_int8:
        assert seen is not None
        written = chosen.write(policy, target, precision, seen.calibration)
    run = None if lack else chosen.run(target, policy)
    return ExportScores(
        target=target,
        format=format,
        precision=precision,
        runs_in=chosen.runs_in,
        cost=_cost(target, run, policy, is_folder=chosen.is_folder),
        constant_bytes=written.constant_bytes,
        policy_cost=_cost(source.path, run_policy(policy), policy),
        check=None if run is None or seen is None else compare(run, policy, seen.compared),
        origin=None if seen is None else seen.origin,
        not_compared=lack or reason,
        num_calibration=len(seen.calibration) if is_int8 and seen is not None else None,
        played=None if games is None else _played(source, chosen.open(target, policy), games),
        notes=written.notes,
    )


def _check_that_it_plays(source: Source, num_episodes: int | None) -> None:
    """Refuse games that cannot be played, before anything is written."""
    if num_episodes and source.policy.network.memory_shape is not None:
        raise ConfigError(
            f"--play {num_episodes}: a file with a memory is compared, and not played; leave it out"
        )
    source.environment(1).close()


def _cost(path: Location, run: Run | None, policy: Policy, *, is_folder: bool = False) -> Cost:
    """Return what a file or folder takes, which `run` asks."""
    files = [path / name for name in path.names()] if is_folder else [path]
    return Cost(
        num_bytes=sum(file.num_bytes() for file in files),
        latency_ms=None if run is None else latency_ms(run, policy),
    )


def _played(source: Source, exported: InferencePolicy, games: Games) -> Played:
    """Let the file play as many games as the policy did."""
    policy, random = games
    return Played(
        exported=play(source, exported, len(policy.returns)), policy=policy, random=random
    )


def _games(source: Source, num_episodes: int | None, num_observations: int) -> Games | None:
    """Let policy and random actions play, where they were asked to or a run's recipe says so."""
    config, asked = source.config, num_episodes is not None
    if num_episodes is None and config is not None and config.evaluation.play is not False:
        num_episodes = config.evaluation.num_episodes
    if not num_episodes or source.policy.network.memory_shape is not None:
        return None
    try:
        policy = play(source, InferencePolicy(source.policy), num_episodes, num_observations)
        return policy, play(source, None, num_episodes)
    except UserError:
        if asked:
            raise
        return None  # as in a run from a dataset whose environment is elsewhere


def _seen(
    source: Source,
    named: Seen | None,
    games: Games | None,
    num_calibration: int,
    *,
    are_needed: bool,
) -> tuple[Seen | None, str | None]:
    """Find real observations, or where there are none and none are needed, say why."""
    played = None if games is None else games[0].observations
    try:
        seen = named or see(
            source, calibration=None, played=played, num_calibration=num_calibration
        )
    except UserError as error:
        if are_needed:
            raise ConfigError(
                f"int8 wants real observations: {error}; or name a dataset with --calibration"
            ) from None
        return None, str(error)
    return seen, None
