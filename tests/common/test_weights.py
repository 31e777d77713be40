import numpy as np
import torch

from common.weights import PolicyWeights, WeightStore, weights_of
from tests.builders import make_policy


def weights(version: int) -> PolicyWeights:
    network = make_policy(seed=version).network
    return weights_of(network, version=version, learner_steps=2 * version, env_steps=3 * version)


def test_weights_are_a_copy_that_another_network_can_load():
    source, target = make_policy(seed=1).network, make_policy(seed=2).network
    copied = weights_of(source, version=4, learner_steps=5, env_steps=6)
    assert (copied.version, copied.learner_steps, copied.env_steps) == (4, 5, 6)
    wanted = {name: tensor.clone() for name, tensor in source.state_dict().items()}
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.fill_(9.0)
    target.load_state_dict(copied.state())
    for name, tensor in target.state_dict().items():
        assert torch.equal(tensor, wanted[name]), name


def test_read_only_arrays_give_tensors_that_may_be_written():
    array = np.arange(3, dtype=np.float32)
    array.flags.writeable = False
    state = PolicyWeights(version=0, learner_steps=0, env_steps=0, arrays={"w": array}).state()
    state["w"].zero_()
    assert array.tolist() == [0, 1, 2]


def test_half_precision_weights_travel_as_float32():
    network = make_policy().network.to(torch.bfloat16)
    arrays = weights_of(network, version=0, learner_steps=0, env_steps=0).arrays
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}


def test_an_empty_store_has_nothing():
    store = WeightStore()
    assert store.version == -1
    assert store.pull_if_newer(-1) is None


def test_a_store_keeps_only_newer_weights():
    store = WeightStore()
    newest = weights(3)
    assert [store.publish(w) for w in (weights(0), newest, weights(3), weights(2))] == [
        True,
        True,
        False,
        False,
    ]
    assert store.version == 3
    assert store.pull_if_newer(2) is newest
    assert store.pull_if_newer(3) is None
    assert store.pull_if_newer(4) is None
