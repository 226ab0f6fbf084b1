"""Encoders for pretext tasks and fine-tuning, and the U-Nets made of them."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from model_samples import a_card
from SSLFewShotLib.errors import InputError
from SSLFewShotLib.networks.analysis_unet import AnalysisEncoder, AnalysisUNet
from SSLFewShotLib.networks.dense_unet import DenselyConnectedEncoder, DenselyConnectedUNet
from SSLFewShotLib.networks.encoders import ENCODERS, make_encoder, pretrained_encoder, segmentation_network
from SSLFewShotLib.networks.unet3d import UNet3d
from torch import nn

SMALL = {
    "AnalysisEncoder": {"features": 2, "levels": 2},
    "DenselyConnectedEncoder": {"growth": 2, "layers": [1, 2]},
    "UNet3d": {"features": 2, "outputs": 3, "levels": 3},
}


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def small(name):
    torch.manual_seed(0)
    return make_encoder(name, SMALL[name])


def card_of(encoder, branch="encoder"):
    architecture = {
        "name": type(encoder).__name__,
        "branches": [branch],
        "parameters": parameters(encoder),
        "settings": encoder.settings,
    }
    return a_card(architecture=architecture)


def tensors_of(encoder, branch="encoder"):
    return {f"{branch}/{name}": tensor.numpy() for name, tensor in encoder.state_dict().items()}


def test_the_analysis_path_has_16_filters_and_4_poolings_with_two_convolutions_a_level():
    encoder = AnalysisEncoder()
    assert encoder.widths == [16, 32, 64, 128, 256]
    assert encoder.multiple == 16
    convolutions = [part for part in encoder.modules() if isinstance(part, nn.Conv3d)]
    assert [c.out_channels for c in convolutions] == [16, 16, 32, 32, 64, 64, 128, 128, 256, 256]
    assert {c.kernel_size for c in convolutions} == {(3, 3, 3)}


def test_the_analysis_path_has_as_many_weights_as_its_widths_make():
    widths = [1, 16, 32, 64, 128, 256]
    convolutions = sum(27 * (a * b + b * b) for a, b in itertools.pairwise(widths))
    normalisations = sum(2 * 2 * b for b in widths[1:])
    assert parameters(AnalysisEncoder()) == convolutions + normalisations


def test_the_dense_encoder_has_blocks_of_2_2_4_and_8_layers_each_followed_by_stride_2_and_a_compression():
    encoder = DenselyConnectedEncoder()
    assert [len(block.layers) for block in encoder.blocks] == [2, 2, 4, 8]
    assert encoder.multiple == 16
    for down in encoder.down:
        reducing, compressing = [part for part in down.modules() if isinstance(part, nn.Conv3d)]
        assert reducing.stride == (2, 2, 2)
        assert compressing.kernel_size == (1, 1, 1) and compressing.out_channels < compressing.in_channels
    # input + growth · layers, halved and rounded up, and so on
    assert encoder.widths == [1 + 32, 17 + 32, 25 + 64, 45 + 128, 87]


def test_a_layer_of_a_dense_block_sees_all_that_came_before_it():
    block = DenselyConnectedEncoder(growth=4).blocks[2]
    seen = [next(part for part in layer.modules() if isinstance(part, nn.Conv3d)) for layer in block.layers]
    assert [c.in_channels - seen[0].in_channels for c in seen] == [0, 4, 8, 12]


def test_group_norm_comes_before_every_convolution_of_the_dense_unet_but_the_one_that_sees_the_scan():
    network = DenselyConnectedUNet(DenselyConnectedEncoder(growth=2), 2)
    order = []
    for part in network.modules():
        if isinstance(part, nn.Conv3d | nn.ConvTranspose3d | nn.GroupNorm):
            name = "norm" if isinstance(part, nn.GroupNorm) else "convolution"
            order.append((name, part.num_channels if name == "norm" else part.in_channels))
    assert order[0] == ("convolution", 1)
    rest = order[1:]
    assert [name for name, _ in rest] == ["norm", "convolution"] * (len(rest) // 2)
    assert all(before[1] == after[1] for before, after in zip(rest[::2], rest[1::2], strict=True))


def test_the_decoder_is_smaller_than_the_encoder_and_has_transposed_convolutions():
    network = DenselyConnectedUNet(DenselyConnectedEncoder(), 2)
    assert parameters(network.decoder) < parameters(network.encoder) / 2
    assert sum(isinstance(part, nn.ConvTranspose3d) for part in network.decoder.modules()) == 4


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_gives_the_maps_of_every_level_the_finest_first(name):
    encoder = small(name)
    sides = [2 * encoder.multiple, encoder.multiple, 3 * encoder.multiple]
    maps = encoder.encode(torch.zeros(2, 1, *sides))
    assert [part.shape[1] for part in maps] == encoder.widths
    for level, part in enumerate(maps):
        assert list(part.shape[2:]) == [side // 2**level for side in sides]
    assert 2 ** (len(maps) - 1) == encoder.multiple


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("size", [(8, 8, 8), (9, 5, 14), (1, 3, 2)])
def test_a_network_made_of_any_encoder_keeps_any_size(name, size):
    network = segmentation_network(small(name), 5)
    assert network(torch.zeros(2, 1, *size)).shape == (2, 5, *size)


@pytest.mark.parametrize("name", ENCODERS)
def test_a_network_trains_the_very_encoder_that_it_was_given(name):
    encoder = small(name)
    network = segmentation_network(encoder, 2)
    network(torch.randn(1, 1, 8, 8, 8)).square().sum().backward()
    own = {id(p) for p in encoder.parameters()}
    used = [p for p in network.encoder.parameters() if id(p) in own]
    assert used and all(p.grad is not None and p.grad.abs().sum() > 0 for p in used)


@pytest.mark.parametrize("name", ENCODERS)
def test_the_same_settings_make_the_same_encoder_again(name):
    encoder = small(name)
    again = make_encoder(name, encoder.settings)
    assert {key: t.shape for key, t in again.state_dict().items()} == {
        key: t.shape for key, t in encoder.state_dict().items()
    }


def test_the_reconstruction_knows_the_scan_from_the_bottom_alone():
    encoder = small("DenselyConnectedEncoder")
    network = DenselyConnectedUNet(encoder, 2).eval()
    values = torch.randn(1, 1, 9, 8, 7)
    logits, restored = network.segment_and_reconstruct(values)
    assert restored.shape == values.shape
    torch.testing.assert_close(logits, network(values))
    torch.testing.assert_close(restored, network.reconstruct(values))
    maps = encoder.encode(torch.randn(1, 1, 8, 8, 8))
    without = [torch.zeros_like(part) for part in maps[:-1]] + [maps[-1]]
    torch.testing.assert_close(network.reconstruction(maps), network.reconstruction(without))
    assert not torch.allclose(network.decoder(maps), network.decoder(without))


def test_the_reconstruction_and_the_segmentation_train_the_encoder_but_not_each_other():
    network = DenselyConnectedUNet(small("DenselyConnectedEncoder"), 2)
    network.reconstruct(torch.randn(1, 1, 8, 8, 8)).square().sum().backward()
    assert all(p.grad is None for p in network.decoder.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in network.encoder.parameters())


@pytest.mark.parametrize("name, branch", [*((name, "encoder") for name in ENCODERS), ("UNet3d", "unet")])
def test_a_models_encoder_comes_back_with_its_weights(name, branch):
    encoder = small(name)
    found = pretrained_encoder(card_of(encoder, branch), tensors_of(encoder, branch))
    assert type(found) is type(encoder)
    values = torch.randn(1, 1, 8, 8, 8)
    for one, other in zip(encoder.encode(values), found.encode(values), strict=True):
        torch.testing.assert_close(one, other)


def test_a_model_without_a_3d_encoder_is_refused():
    card = dataclasses.replace(
        card_of(small("AnalysisEncoder")), architecture={"name": "D2D", "branches": ["S"], "parameters": 1}
    )
    with pytest.raises(InputError, match="'D2D' has no 3D encoder to go on with; choose a model of cpc"):
        pretrained_encoder(card, {"S/x": np.zeros(1, np.float32)})


@pytest.mark.parametrize("harm", ["missing", "wider", "settings"])
def test_weights_that_do_not_fit_their_card_are_refused(harm):
    encoder = small("AnalysisEncoder")
    card, tensors = card_of(encoder), tensors_of(encoder)
    key = next(iter(tensors))
    if harm == "missing":
        del tensors[key]
    elif harm == "wider":
        tensors[key] = np.concatenate([tensors[key]] * 2)
    else:
        card.architecture["settings"] = {"depth": 3}
    with pytest.raises(InputError, match="weights and card do not fit; get the model again"):
        pretrained_encoder(card, tensors)


def test_an_unknown_encoder_or_setting_is_refused():
    with pytest.raises(InputError, match="encoder 'resnet' is not known; choose one of "):
        make_encoder("resnet")
    with pytest.raises(InputError, match=r"AnalysisEncoder: .*'depth'"):
        make_encoder("AnalysisEncoder", {"depth": 3})


def test_an_analysis_unet_has_a_transposed_convolution_a_level():
    network = AnalysisUNet(AnalysisEncoder(features=2), 3)
    assert sum(isinstance(part, nn.ConvTranspose3d) for part in network.modules()) == 4
    assert isinstance(segmentation_network(UNet3d(1, 2, 4, 2), 3), UNet3d)
