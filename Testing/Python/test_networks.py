"""The networks of the context-feature paper, and where they compute."""

import pytest
import torch
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.networks.context import (
    D2D,
    D3D,
    HeatmapHead,
    SixNeighbourHead,
    TwoParameterHead,
    initialise_xavier,
    upscaled,
)
from SSLFewShotLib.networks.device import choose_device
from torch import nn

# Table 1 of the paper: parameters, and what goes in and comes out.
TABLE_1 = [
    (D2D, 139_744, (3, 42, 42), (64,)),
    (TwoParameterHead, 27_138, (128,), (2,)),
    (HeatmapHead, 28_189, (128,), (19, 19)),
    (D3D, 393_392, (1, 25, 25, 25), (192,)),
    (SixNeighbourHead, 31_238, (384,), (6,)),
]
CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)


@pytest.mark.parametrize("network, parameters, taken, given", TABLE_1)
def test_the_parameters_are_as_many_as_in_table_1(network, parameters, taken, given):
    assert sum(p.numel() for p in network().parameters()) == parameters


@pytest.mark.parametrize("network, parameters, taken, given", TABLE_1)
def test_inputs_and_outputs_have_the_sizes_of_table_1(network, parameters, taken, given):
    with torch.inference_mode():
        assert network()(torch.zeros(2, *taken)).shape == (2, *given)


@pytest.mark.parametrize("network, parameters, taken, given", TABLE_1)
def test_group_norm_has_four_groups_and_only_a_heads_last_convolution_has_a_bias(
    network, parameters, taken, given
):
    parts = list(network().modules())
    assert all(part.num_groups == 4 and part.affine for part in parts if isinstance(part, nn.GroupNorm))
    with_bias = [part.bias is not None for part in parts if isinstance(part, CONVOLUTIONS)]
    is_head = network not in (D2D, D3D)
    assert with_bias == [False] * (len(with_bias) - 1) + [is_head]


def test_the_kernels_and_dilations_of_the_3d_network_are_those_of_table_1():
    rows = [(c.kernel_size[0], c.dilation[0]) for c in D3D().modules() if isinstance(c, nn.Conv3d)]
    assert rows == [(5, 1), (3, 2), (3, 2), (3, 2), (3, 1), (5, 1), (3, 1)]


@pytest.mark.parametrize("before, after", [(3, 11), (17, 19)])
def test_heatmaps_are_scaled_up_as_torch_does_it(before, after):
    planes = torch.randn(2, 5, before, before, generator=torch.Generator().manual_seed(0))
    expected = nn.functional.interpolate(planes, size=(after, after), mode="bilinear", align_corners=False)
    torch.testing.assert_close(upscaled(planes, after), expected, atol=1e-5, rtol=1e-5)


def test_a_descriptor_does_not_depend_on_what_else_is_in_the_batch():
    torch.manual_seed(0)
    for network, size in ((D2D(), (3, 42, 42)), (D3D(), (1, 25, 25, 25))):
        network.eval()
        inputs = torch.randn(3, *size)
        with torch.inference_mode():
            together = network(inputs)
            alone = torch.cat([network(one[None]) for one in inputs])
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_xavier_weights_are_drawn_from_the_seed_alone():
    def weights(seed: int, other_draws: int) -> list[torch.Tensor]:
        torch.manual_seed(other_draws)
        network = D2D()
        initialise_xavier(network, seed)
        return [p.detach().clone() for p in network.parameters()]

    first, again, other = weights(3, 0), weights(3, 1), weights(4, 0)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_xavier_weights_fill_glorots_interval_evenly():
    network = D2D()
    initialise_xavier(network, 0)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            bound = (6 / (9 * (layer.in_channels + layer.out_channels))) ** 0.5
            weights = layer.weight.detach()
            assert 0.97 * bound < float(weights.abs().max()) <= bound
            assert float(weights.std()) == pytest.approx(bound / 3**0.5, rel=0.05)


def test_the_cpu_is_always_there_and_auto_finds_a_device():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda", "mps")


def test_a_device_that_does_not_exist_is_refused_by_name():
    with pytest.raises(InputError, match="'warp': auto, cpu, cuda"):
        choose_device("warp")
    absent = f"cuda:{torch.cuda.device_count() + 3}"
    with pytest.raises(InputError, match=absent):
        choose_device(absent)
