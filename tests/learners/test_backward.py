import pytest
import torch
from torch.nn import functional as F

from common.frames import FrameObservations
from common.policies.inference import InferencePolicy
from learners.learner import Learner
from learners.objectives import ObjectiveConfig
from learners.samplers import Draw
from tests.builders import make_chunk, make_policy
from tests.learners.learning import assert_same_weights, item, make_learner, train, weights_of


@pytest.mark.parametrize("kind", ["frames", "vectors"])
@pytest.mark.parametrize("micro_batch_size", [1, 5, 16, 100])
def test_micro_batches_give_the_step_of_the_whole_batch(kind, micro_batch_size):
    whole, parts = make_learner(kind), make_learner(kind, micro_batch_size=micro_batch_size)
    before = weights_of(whole)
    for learner in (whole, parts):
        learner.receive(item(make_chunk(kind)))
        train(learner, 1)
    assert_same_weights(parts, weights_of(whole), rtol=1e-3, atol=1e-6)
    assert any((weights_of(whole)[name] != tensor).any() for name, tensor in before.items())
    for name, value in whole.metrics.items():
        assert parts.metrics[name] == pytest.approx(value, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_student_learns_from_frames_scaled_as_it_acts_on_them(precision):
    chunk = make_chunk("frames", num_steps=1, num_envs=1)
    learner = make_learner("frames", precision=precision)
    assert isinstance(chunk.observations, FrameObservations)
    logits = InferencePolicy(make_policy("frames"))(chunk.observations.stacks()[0]).dist_inputs
    p = F.log_softmax(torch.from_numpy(chunk.teacher_dist_inputs[0]).float(), -1)
    pi = F.log_softmax(torch.from_numpy(logits), -1)
    learner.receive(item(chunk))
    train(learner, 1)
    tolerance = {"float32": 1e-5, "bfloat16": 0.02}[precision]
    wanted = float((p.exp() * (p - pi)).sum())
    assert learner.metrics["loss"] == pytest.approx(wanted, abs=tolerance)


def spied(learner: Learner) -> list[tuple[list[int], torch.Tensor]]:
    """Return what the learner's sampler will hear of losses."""
    heard: list[tuple[list[int], torch.Tensor]] = []
    learner._sampler.update = lambda rows, losses: heard.append((rows.tolist(), losses))  # type: ignore[method-assign]
    return heard


@pytest.mark.parametrize("micro_batch_size", [16, 5])
def test_the_sampler_hears_of_every_samples_loss(micro_batch_size):
    learner = make_learner(micro_batch_size=micro_batch_size)
    learner.receive(item(make_chunk()))
    network = learner.student.network
    wanted = {}
    for row in range(learner.window_size):
        batch = learner.gather(torch.tensor([row]))
        value = ObjectiveConfig.model_validate({"kl": {}})(batch, network(batch.observations))
        wanted[row] = float(value.losses)
    heard = spied(learner)
    train(learner, 1)
    ((rows, losses),) = heard
    assert losses.tolist() == pytest.approx([wanted[row] for row in rows], rel=1e-4)
    assert learner.metrics["loss"] == pytest.approx(float(losses.mean()), rel=1e-4)


@pytest.mark.parametrize("micro_batch_size", [16, 5])
def test_a_step_follows_the_weights_of_the_draw(micro_batch_size):
    learner = make_learner(micro_batch_size=micro_batch_size)
    learner.receive(item(make_chunk()))
    rows, weights = learner.draw(16).rows, torch.linspace(0.0, 1.0, 16)
    learner.draw = lambda num_samples: Draw(rows, weights)  # type: ignore[method-assign]
    heard = spied(learner)
    train(learner, 1)
    ((_, losses),) = heard
    assert learner.metrics["loss"] == pytest.approx(float((weights * losses).mean()), rel=1e-4)
    assert learner.metrics["kl"] == pytest.approx(float(losses.mean()), rel=1e-4)
