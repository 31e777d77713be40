import math

import torch

from common.networks.gsde import GSDEHead, GSDESpec
from common.networks.mlp import MLP, MLPSpec


def test_log_std_follows_from_the_features_one_by_one():
    torch.manual_seed(0)
    head = GSDEHead(GSDESpec(), 3, 2)
    head.log_std.data.normal_()
    features, weights = torch.randn(4, 3), head.log_std.detach()
    mean, log_std = head(features).detach().chunk(2, dim=-1)
    torch.testing.assert_close(mean, head.mean(features))
    for row in range(4):
        for entry in range(2):
            variance = sum(
                float(features[row, h]) ** 2 * math.exp(float(weights[h, entry])) ** 2
                for h in range(3)
            )
            wanted = math.log(math.sqrt(variance + 1e-6))
            assert math.isclose(float(log_std[row, entry]), wanted, rel_tol=1e-4)


def test_means_are_clipped_where_they_should_be():
    head = GSDEHead(GSDESpec(clip_mean=2.0), 3, 2)
    mean, _ = head(100 * torch.randn(50, 3)).chunk(2, dim=-1)
    assert mean.abs().max() == 2.0
    free, _ = GSDEHead(GSDESpec(), 3, 2)(100 * torch.randn(50, 3)).chunk(2, dim=-1)
    assert free.abs().max() > 2.0


def test_a_network_with_this_head_learns_in_all_its_parts():
    spec = MLPSpec(hidden=(8,), gsde=GSDESpec())
    network = MLP(spec, observation_shape=(5,), num_actions=4, has_value=False)
    network.initialise()
    network.set_precision(torch.bfloat16)
    output = network(torch.rand(3, 5, dtype=torch.bfloat16)).dist_inputs
    assert (output.shape, output.dtype) == ((3, 4), torch.float32)
    output.square().sum().backward()
    assert {name for name, p in network.named_parameters() if p.grad is not None} == {
        "layers.0.weight",
        "layers.0.bias",
        "head.mean.weight",
        "head.mean.bias",
        "head.log_std",
    }
