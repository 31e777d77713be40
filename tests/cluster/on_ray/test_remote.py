from cluster.on_ray.actors import RAY_ENV_RUNNER, RAY_PLAY, RAY_REPLAY_SHARD, RAY_WEIGHT_STORE


def test_calls_leave_nothing_at_the_clusters_head() -> None:
    for made in (RAY_ENV_RUNNER, RAY_PLAY, RAY_REPLAY_SHARD, RAY_WEIGHT_STORE):
        assert made._default_options["enable_task_events"] is False
