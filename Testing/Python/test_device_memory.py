"""A device whose memory is full: smaller batches, then the CPU, the same vectors, and a user who is told."""

import functools
import warnings

import numpy as np
import pytest
import torch
from SSLFewShotLib.descriptors.context import LEAST_BATCH, CubicDescriptor, PlanarDescriptor
from SSLFewShotLib.descriptors.dense import DenseDescriptor
from SSLFewShotLib.descriptors.mind import MindSsc
from SSLFewShotLib.errors import InputWarning
from SSLFewShotLib.imaging import Volume
from SSLFewShotLib.imaging.phantoms import phantom
from SSLFewShotLib.networks.context import D3D
from SSLFewShotLib.networks.device_memory import empty_cache, is_out_of_memory
from SSLFewShotLib.networks.unet3d import UNet3d
from SSLFewShotLib.sampling.batch import ScanBatch
from SSLFewShotLib.sampling.extent import Extent
from SSLFewShotLib.sampling.intensity import Intensity

EXTENT, WINDOW = Extent("mm", 120.0), Intensity("window", -500.0, 1000.0)
MPS_FULL = RuntimeError("MPS backend out of memory (MPS allocated: 8.50 GB, max allowed: 9.07 GB). Tried to …")
CUDA_FULL = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")


@functools.cache
def torso(seed: int = 0) -> Volume:
    return phantom(seed, size=(32, 26, 28), spacing=(4.0, 4.0, 4.0))[0]


def points_of(volume: Volume, count: int) -> np.ndarray:
    return volume.points_from_indices(np.random.default_rng(0).uniform(0.25, 0.75, (count, 3)) * volume.size)


class SmallCard(PlanarDescriptor):
    """Networks on "meta", a device that computes nothing, which stands for a card with room for `room` points.

    The scan and the patches of a batch that fits go to the CPU, so that the vectors are real ones.
    """

    error: Exception = CUDA_FULL
    room = 10**9
    scans_fit = True

    @classmethod
    def with_room(cls, room: int, error: Exception = CUDA_FULL, scans_fit: bool = True):
        made = cls.untrained(EXTENT, WINDOW, "cpu")
        made.device = torch.device("meta")
        made.batch_size, made.room, made.error, made.scans_fit = 128, room, error, scans_fit
        made.asked, made.moved = [], []
        return made

    def _move(self, device):
        self.moved.append(device.type)
        if device.type == "meta" and not self.scans_fit:
            raise self.error

    def patches_to_vectors(self, batch, positions):
        self.asked.append((batch.device.type, len(positions)))
        if batch.device.type == "cpu":
            return super().patches_to_vectors(batch, positions)
        if len(positions) > self.room:
            raise self.error
        start = sum(count for kind, count in self.asked[:-1] if count <= self.room)
        real = torch.as_tensor(self.real_positions[start : start + len(positions)], dtype=torch.float32)
        return super().patches_to_vectors(ScanBatch(batch.scans, "cpu"), real)


def described(descriptor: SmallCard, volume: Volume, points: np.ndarray) -> tuple[np.ndarray, list[str]]:
    descriptor.real_positions = descriptor.prepare(volume).indices(points)
    descriptor.asked.clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        vectors = descriptor.describe(volume, points)
    return vectors, [str(w.message) for w in caught if issubclass(w.category, InputWarning)]


@functools.cache
def reference(count: int) -> np.ndarray:
    return PlanarDescriptor.untrained(EXTENT, WINDOW).describe(torso(), points_of(torso(), count))


@pytest.mark.parametrize("error", [CUDA_FULL, MPS_FULL], ids=["cuda", "mps"])
def test_a_full_card_gets_half_the_points_at_a_time_and_the_vectors_stay_the_same(error):
    card = SmallCard.with_room(50, error)
    vectors, said = described(card, torso(), points_of(torso(), 150))
    assert card.asked == [("meta", 128), ("meta", 64), *[("meta", 32)] * 4, ("meta", 22)]
    np.testing.assert_allclose(vectors, reference(150), atol=1e-5)
    assert said == [f"{torso().name}: {card.fell_back}"]
    assert "meta" in said[0] and "32 points at a time instead of 128" in said[0]


@pytest.mark.parametrize("error", [CUDA_FULL, MPS_FULL], ids=["cuda", "mps"])
def test_a_card_too_full_for_the_smallest_batch_leaves_the_scan_to_the_cpu(error):
    card = SmallCard.with_room(LEAST_BATCH - 1, error)
    vectors, said = described(card, torso(), points_of(torso(), 100))
    assert card.asked == [
        ("meta", 100),
        ("meta", 50),
        ("meta", 32),
        ("cpu", 32),
        ("cpu", 32),
        ("cpu", 32),
        ("cpu", 4),
    ]
    assert card.moved[-1] == "cpu"
    np.testing.assert_allclose(vectors, reference(100), atol=1e-5)
    assert said == [f"{torso().name}: {card.fell_back}"]
    assert "on the CPU" in said[0] and "close other programs" in said[0]


def test_a_card_that_cannot_even_hold_the_scan_leaves_it_to_the_cpu_at_once():
    card = SmallCard.with_room(0, scans_fit=False)
    vectors, said = described(card, torso(), points_of(torso(), 40))
    assert {kind for kind, _ in card.asked} == {"cpu"}
    np.testing.assert_allclose(vectors, reference(40), atol=1e-5)
    assert len(said) == 1 and "on the CPU" in said[0]


def test_what_was_described_before_the_card_was_full_is_kept():
    card = SmallCard.with_room(128)
    plain = card.patches_to_vectors

    def filling_up(batch, positions):
        if len(card.asked) == 1:
            card.room = 0
        return plain(batch, positions)

    card.patches_to_vectors = filling_up
    vectors, _ = described(card, torso(), points_of(torso(), 150))
    assert card.asked == [("meta", 128), ("meta", 22), ("cpu", 22)], "the first 128 are not done again"
    np.testing.assert_allclose(vectors, reference(150), atol=1e-5)


def test_the_same_scan_stays_on_the_cpu_and_the_next_one_tries_the_card_again():
    card = SmallCard.with_room(0)
    described(card, torso(), points_of(torso(), 40))
    _, said = described(card, torso(), points_of(torso(), 40))
    assert {kind for kind, _ in card.asked} == {"cpu"} and said == [], "told once a scan"
    card.room = 1000
    _, said = described(card, torso(1), points_of(torso(1), 40))
    assert card.asked == [("meta", 40)] and said == [] and card.fell_back == ""


def test_a_watcher_sees_that_it_is_computed_on_the_cpu():
    card, messages = SmallCard.with_room(0), []
    points = points_of(torso(), 40)
    with pytest.warns(InputWarning, match="on the CPU"):
        card.describe(torso(), points, lambda fraction, message: messages.append(message))
    assert f"describing {torso().name} on the CPU" in messages


class MindOnASmallCard(MindSsc):
    """MIND on "meta", a device that computes nothing, for a card that is full."""

    error: Exception = CUDA_FULL

    def _computed(self, values, progress):
        self.asked = [*getattr(self, "asked", []), values.device.type]
        if values.device.type == "meta":
            raise self.error
        return super()._computed(values, progress)


class DenseOnASmallCard(DenseDescriptor):
    """A dense network for a card that is full from its second tile on; "meta" stands for it, the CPU computes."""

    error: Exception = CUDA_FULL

    def _through(self, values, device):
        self.asked = [*getattr(self, "asked", []), device.type]
        if device.type == "meta" and len(self.asked) > 1:
            raise self.error
        return super()._through(values, torch.device("cpu"))


def a_dense_descriptor(kind: type[DenseDescriptor]) -> DenseDescriptor:
    torch.manual_seed(0)
    made = kind(UNet3d(1, 4, 8, 3), Extent("mm", 60.0), WINDOW, "small")
    if kind is DenseOnASmallCard:
        made.device = torch.device("meta")
    return made


@pytest.mark.parametrize("error", [CUDA_FULL, MPS_FULL], ids=["cuda", "mps"])
def test_mind_that_does_not_fit_on_the_card_is_computed_on_the_cpu_and_the_next_scan_tries_the_card_again(error):
    card, points = MindOnASmallCard(EXTENT, WINDOW, "meta"), points_of(torso(), 40)
    card.error = error
    with pytest.warns(InputWarning, match=f"^{torso().name}: the memory of meta was full.*on the CPU") as said:
        vectors = card.describe(torso(), points)
    np.testing.assert_array_equal(vectors, MindSsc(EXTENT, WINDOW).describe(torso(), points))
    assert len(said) == 1 and card.asked == ["meta", "cpu"]
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)
        card.describe(torso(), points[:3])
    with pytest.warns(InputWarning, match="on the CPU"):
        card.describe(torso(1), points_of(torso(1), 3))
    assert card.asked == ["meta", "cpu"] * 2


@pytest.mark.parametrize("error", [CUDA_FULL, MPS_FULL], ids=["cuda", "mps"])
def test_the_tiles_that_do_not_fit_on_the_card_are_computed_on_the_cpu(error):
    card, points = a_dense_descriptor(DenseOnASmallCard), points_of(torso(), 40)
    card.error = error
    with pytest.warns(InputWarning, match=f"^{torso().name}: the memory of meta was full.*on the CPU") as said:
        vectors = card.describe(torso(), points)
    np.testing.assert_array_equal(vectors, a_dense_descriptor(DenseDescriptor).describe(torso(), points))
    assert len(said) == 1
    assert card.asked[:3] == ["meta", "meta", "cpu"] and set(card.asked[3:]) == {"cpu"}
    with pytest.warns(InputWarning, match="on the CPU"):
        card.describe(torso(1), points_of(torso(1), 3))
    assert card.asked.count("meta") == 3, "the next scan begins on the card again"


@pytest.mark.parametrize("kind", [MindOnASmallCard, DenseOnASmallCard])
def test_another_error_of_a_card_is_raised_by_every_descriptor(kind):
    card = MindOnASmallCard(EXTENT, WINDOW, "meta") if kind is MindOnASmallCard else a_dense_descriptor(kind)
    card.error = RuntimeError("CUDA error: an illegal memory access was encountered")
    with pytest.raises(RuntimeError, match="illegal memory access"):
        card.describe(torso(), points_of(torso(), 40))
    assert "cpu" not in card.asked


def test_a_machine_whose_own_memory_is_full_is_given_smaller_batches_and_then_says_so():
    full = RuntimeError(
        "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"
    )
    descriptor, asked = PlanarDescriptor.untrained(EXTENT, WINDOW), []

    def too_much(batch, positions):
        asked.append(len(positions))
        raise full

    descriptor.patches_to_vectors = too_much
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"):
        descriptor.describe(torso(), points_of(torso(), 600))
    assert asked == [128, 64, 32]
    assert is_out_of_memory(full)


def test_another_error_of_a_card_is_no_reason_to_go_on():
    card = SmallCard.with_room(0, RuntimeError("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(RuntimeError, match="illegal memory access"):
        described(card, torso(), points_of(torso(), 40))
    assert len(card.asked) == 1


def test_the_networks_can_still_be_used_after_they_were_moved():
    descriptor = CubicDescriptor(D3D(), EXTENT, WINDOW, "test")
    descriptor.batch_size = 64
    descriptor.describe(torso(), points_of(torso(), 2))
    weights = next(descriptor.encoder.parameters())
    assert not weights.is_inference() and weights.device.type == "cpu"


@pytest.mark.parametrize(
    "error, full",
    [
        (CUDA_FULL, True),
        (MPS_FULL, True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_an_error_is_told_to_be_about_memory_by_its_type_or_words(error, full):
    assert is_out_of_memory(error) is full


def test_emptying_the_cache_starts_no_card_that_was_not_used():
    before = torch.cuda.is_initialized()
    empty_cache()
    empty_cache(torch.device("cpu"))
    assert torch.cuda.is_initialized() == before
