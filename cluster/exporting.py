"""Writes an export, asks it in its runtime what its policy is asked, and lets it play."""

from actors.evaluator import EvaluationResult
from cluster.export_observations import Seen, num_wanted, see
from cluster.export_scores import Cost, ExportScores, Played, play_exported, play_policy_and_random
from cluster.export_source import Source
from common.errors import ConfigError, UserError
from common.storage import Location
from learners.export import EXPORT_FORMATS, Precision, compare, latency_ms, run_policy


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
    if num_episodes and policy.network.memory_shape is not None:
        raise ConfigError(
            f"--play {num_episodes}: a file with a memory is compared, and not played; leave it out"
        )
    # What cannot be done is found before anything is written.
    if num_episodes:
        source.environment(1).close()
    named = None if calibration is None else see(source, calibration=calibration, played=None)
    if precision != "int8":  # which waits for observations
        chosen.write(policy, target, precision, None)
    games = _games(source, num_episodes)
    seen, origin = _seen(source, named, games, are_needed=precision == "int8")
    num_calibration = None
    if precision == "int8":
        assert seen is not None
        chosen.write(policy, target, precision, seen.calibration)
        num_calibration = len(seen.calibration)
    run = chosen.run(target, policy)
    played = None
    if games is not None:
        exported = play_exported(source, target, len(games[0].returns))
        played = Played(exported=exported, policy=games[0], random=games[1])
    files = [target / name for name in target.names()] if chosen.is_folder else [target]
    num_bytes = sum(file.num_bytes() for file in files)
    own = Cost(num_bytes=source.path.num_bytes(), latency_ms=latency_ms(run_policy(policy), policy))
    return ExportScores(
        target=target,
        format=format,
        precision=precision,
        runs_in=chosen.runs_in,
        cost=Cost(num_bytes=num_bytes, latency_ms=latency_ms(run, policy)),
        policy_cost=own,
        check=None if seen is None else compare(run, policy, seen.compared),
        origin=origin,
        num_calibration=num_calibration,
        played=played,
    )


def _games(
    source: Source, num_episodes: int | None
) -> tuple[EvaluationResult, EvaluationResult] | None:
    """Let policy and random actions play, where they were asked to or a run's recipe says so."""
    config, asked = source.config, num_episodes is not None
    if num_episodes is None and config is not None and config.evaluation.play is not False:
        num_episodes = config.evaluation.num_episodes
    if not num_episodes or source.policy.network.memory_shape is not None:
        return None
    try:
        return play_policy_and_random(source, num_episodes, num_wanted(source))
    except UserError:
        if asked:
            raise
        return None  # as in a run from a dataset whose environment is elsewhere


def _seen(
    source: Source,
    named: Seen | None,
    games: tuple[EvaluationResult, EvaluationResult] | None,
    *,
    are_needed: bool,
) -> tuple[Seen | None, str]:
    """Find real observations, and say where; where there are none and none are needed, say why."""
    played = None if games is None else games[0].observations
    try:
        seen = named or see(source, calibration=None, played=played)
    except UserError as error:
        if are_needed:
            raise ConfigError(
                f"int8 wants real observations: {error}; or name a dataset with --calibration"
            ) from None
        return None, f"not compared: {error}"
    return seen, f"observations: {seen.origin}"
