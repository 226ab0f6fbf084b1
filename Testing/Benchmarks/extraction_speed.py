"""Speed and memory of descriptor extraction, beside the arithmetic floor and a plain reference.

Measured on a synthetic CT of the size in the context-feature paper (Blendowski et al., MICCAI 2019, section 3):
243 × 176 × 293 voxels of 1.5 mm, described at every 4th voxel along each axis, 192,720 positions.

- positions/s and time of `describe`, without loading and without the preparation of the scan, which has a
  column of its own. A network too slow to describe them all is given an even subset, and the time for all is
  extrapolated ("from N"); training-free descriptors always describe all.
- share of network: of that time, how much the network's own layers took; the rest is reading patches.
  On CUDA the clock waits for the GPU before and after every network.
- floor: multiply-accumulates of all convolutions (counted by hooks on the layers) at the machine's peak, two
  operations each; the peak is that of a matrix product (4096 × 4096, float32 on a CPU with the same number of
  threads, float16 on CUDA, the type that the networks run in there). Efficiency is floor / time.
- peak memory of the process (a process for each descriptor), with what it needed before it described anything.
- references: the same patches, read by torch's general `grid_sample`, through the same network in torch's default
  (channels-first) memory. Printed is how far both results differ; the most is that of patches of nothing but air,
  where GroupNorm brings rounding errors to the size of a signal.

    python Testing/Benchmarks/extraction_speed.py [--device cuda] [--threads 2] [--positions 2000] > speed.md

Needs the installed library and nothing else. --positions bounds what a network is given, for a quick look: let
nothing else run beside it, or the figures say little.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from SSLFewShotLib.descriptors.context import CubicDescriptor, PatchDescriptor, PlanarDescriptor
from SSLFewShotLib.descriptors.descriptor import Descriptor
from SSLFewShotLib.descriptors.loading import load_descriptor
from SSLFewShotLib.imaging.phantoms import phantom
from SSLFewShotLib.imaging.resampling import grid_like, resample
from SSLFewShotLib.imaging.volume import Volume
from SSLFewShotLib.networks.context import D2D, D3D
from SSLFewShotLib.pretext.planar_offset import AXIS_NAMES, slice_offsets_in_voxels
from SSLFewShotLib.sampling.batch import ScanBatch
from SSLFewShotLib.sampling.patches import PLANE_AXES
from torch import nn

SIZE, SPACING, EVERY = (243, 176, 293), 1.5, 4
PLANAR, CUBIC = "heatmap-head-neck-ct", "doersch-head-neck-ct"
REFERENCE = " reference"
# What is measured, with the most positions that it is given on a CPU (None: all) and on a GPU.
CONTENDERS = {
    PLANAR: (None, None),
    PLANAR + REFERENCE: (24576, None),
    CUBIC: (4096, None),
    CUBIC + REFERENCE: (2048, None),
    "gvdiff": (None, None),
    "mind": (None, None),
}


class PlanarReference(PlanarDescriptor):
    """The planar descriptor, done as torch's tutorials would."""

    def patches_to_vectors(self, batch: ScanBatch, positions: torch.Tensor) -> torch.Tensor:
        parts = []
        for axis, encoder in self.encoders.items():
            normal = AXIS_NAMES.index(axis)
            rows, columns = PLANE_AXES[normal]
            steps = torch.arange(D2D.input_size, device=batch.device) - (D2D.input_size - 1) / 2
            offsets = torch.zeros(3, len(steps), len(steps), 3, device=batch.device)
            offsets[..., normal] = torch.tensor(slice_offsets_in_voxels(), device=batch.device)[:, None, None]
            offsets[..., rows] = steps[:, None]
            offsets[..., columns] = steps
            parts.append(encoder.layers(read_by_grid_sample(batch, positions, offsets)).flatten(1))
        return torch.cat(parts, dim=1)


class CubicReference(CubicDescriptor):
    """The same for cubes."""

    def patches_to_vectors(self, batch: ScanBatch, positions: torch.Tensor) -> torch.Tensor:
        steps = torch.arange(D3D.input_size, device=batch.device) - (D3D.input_size - 1) / 2
        offsets = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij")[::-1], dim=-1)
        return self.encoder.layers(read_by_grid_sample(batch, positions, offsets)[:, None]).flatten(1)


def read_by_grid_sample(batch: ScanBatch, positions: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """(N, 3) indices (i, j, k) and (A, B, C, 3) offsets around them to (N, A, B, C) values."""
    size = batch.sizes[0].tolist()
    last = torch.tensor(size[::-1], device=batch.device) - 1
    where = (positions[:, None, None, None] + offsets) / last * 2 - 1
    image = batch.values.view(1, 1, *size)
    flat = where.flatten(0, 1)[None]
    found = nn.functional.grid_sample(image, flat, padding_mode="border", align_corners=True)
    return found.view(len(positions), *offsets.shape[:3])


def as_reference(descriptor: PatchDescriptor) -> PatchDescriptor:
    """The same descriptor by the reference's way."""
    reference = copy.deepcopy(descriptor)
    reference.__class__ = PlanarReference if isinstance(descriptor, PlanarDescriptor) else CubicReference
    for network in networks(reference):
        network.to(memory_format=torch.contiguous_format)
    return reference


def networks(descriptor: Descriptor) -> list[nn.Module]:
    """The networks that a descriptor runs at every position."""
    if isinstance(descriptor, PlanarDescriptor):
        return list(descriptor.encoders.values())
    return [descriptor.encoder] if isinstance(descriptor, CubicDescriptor) else []


def multiply_accumulates(descriptor: Descriptor) -> int:
    """Those of all convolutions for one position, counted while the networks run on a patch."""
    total = 0

    def count(layer: nn.Conv2d | nn.Conv3d, _: tuple, output: torch.Tensor) -> None:
        nonlocal total
        total += output.numel() * layer.weight[0].numel()

    hooks = []
    for network in networks(descriptor):
        layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Conv3d)]
        hooks += [layer.register_forward_hook(count) for layer in layers]
        shape = (1, 3, 42, 42) if isinstance(network, D2D) else (1, 1, 25, 25, 25)
        with torch.inference_mode():
            network(torch.zeros(shape, device=next(network.parameters()).device))
    for hook in hooks:
        hook.remove()
    return total


def peak_flops(device: torch.device) -> float:
    """Operations a second of a large matrix product, the best of twelve."""
    kind = torch.float16 if device.type == "cuda" else torch.float32
    left, right = (torch.rand(4096, 4096, device=device, dtype=kind) for _ in range(2))
    best = np.inf
    for _ in range(12):
        began = now(device)
        torch.mm(left, right)
        best = min(best, now(device) - began)
    return 2 * 4096**3 / best


def now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


class NetworkClock:
    """Adds up the time between the beginning and the end of every network's forward pass."""

    def __init__(self, descriptor: Descriptor, device: torch.device):
        self.seconds = 0.0
        self.device = device
        for network in networks(descriptor):
            # The reference calls the layers themselves.
            network.layers.register_forward_pre_hook(lambda *_: self.add(-1))
            network.layers.register_forward_hook(lambda *_: self.add(1))

    def add(self, sign: int) -> None:
        self.seconds += sign * now(self.device)


def measure(name: str, folder: Path, device: torch.device, most: int | None) -> dict:
    """Describe the volume in `folder` by one contender; runs in a process of its own."""
    volume = Volume.from_spacing(np.load(folder / "volume.npy"), (SPACING,) * 3, modality="CT")
    indices = np.stack(
        np.meshgrid(*(EVERY // 2 + EVERY * np.arange(n // EVERY) for n in SIZE), indexing="ij"), axis=-1
    ).reshape(-1, 3)
    total = len(indices)
    descriptor = load_descriptor(name.removesuffix(REFERENCE), volume, device)
    learned = networks(descriptor)
    if learned and most and most < total:
        indices = indices[np.linspace(0, total - 1, most).astype(int)]
    points = volume.points_from_indices(indices)
    difference = None
    if name.endswith(REFERENCE):
        some = points[:: max(1, len(points) // 256)]
        expected = descriptor.describe(volume, some)
        descriptor = as_reference(descriptor)
        apart = np.abs(descriptor.describe(volume, some) - expected) / expected.std()
        difference = float(np.median(apart)), float(apart.max())
    began = now(device)
    descriptor.preparation(volume)
    preparation = now(device) - began
    descriptor.prepare(volume)
    macs = multiply_accumulates(descriptor)
    before = peak_memory()
    if learned:  # the first batch chooses algorithms; a training-free descriptor would remember what it computes
        descriptor.describe(volume, points[: descriptor.batch_size])
    clock = NetworkClock(descriptor, device)
    began = now(device)
    vectors = descriptor.describe(volume, points)
    seconds = now(device) - began
    if not np.isfinite(vectors).all() or not vectors.std(axis=0).any():
        sys.exit(f"{name}: the descriptors are not finite, or all alike")
    return {
        "name": name,
        "numbers": vectors.shape[1],
        "positions": len(points),
        "total": total,
        "preparation": preparation,
        "seconds": seconds,
        "network": clock.seconds,
        "macs": macs,
        "difference": difference,
        "before": before,
        "memory": peak_memory(),
        "gpu_memory": torch.cuda.max_memory_allocated() if device.type == "cuda" else 0,
        "peak": peak_flops(device) if learned else 0.0,
    }


def peak_memory() -> int:
    """Bytes that this process has held at most."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--positions", type=int, help="the most that a network is given, beside CONTENDERS")
    parser.add_argument("--only", choices=CONTENDERS, nargs="+", default=list(CONTENDERS), metavar="NAME")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    torch.set_num_threads(arguments.threads)
    if arguments.measure:
        name, folder = arguments.measure
        print(json.dumps(measure(name, Path(folder), device, arguments.positions)))
        return
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "volume.npy", paper_sized_scan().array)
        results = [result_of(name, folder, arguments, device) for name in arguments.only]
    print(as_markdown(results, device, arguments.threads))


def paper_sized_scan() -> Volume:
    """A phantom of half the resolution, brought to the paper's size; the time does not depend on what it shows."""
    half = tuple((n + 1) // 2 for n in SIZE)
    coarse, _ = phantom(0, size=half, spacing=tuple(SPACING * n / h for n, h in zip(SIZE, half, strict=True)))
    fine = resample(coarse, grid_like(coarse, SPACING))
    assert fine.size == SIZE
    return fine.with_array(np.rint(fine.array).astype(np.int16))


def result_of(name: str, folder: str, arguments: argparse.Namespace, device: torch.device) -> dict:
    """What `measure` gives, in a process of its own."""
    bounds = [n for n in (arguments.positions, CONTENDERS[name][device.type == "cuda"]) if n]
    most = min(bounds, default=None)
    command = [sys.executable, __file__, "--measure", name, folder, "--device", str(device)]
    command += ["--threads", str(arguments.threads)] + (["--positions", str(most)] if most else [])
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
    print(f"measuring {name}", file=sys.stderr)
    done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, text=True, check=True)
    result = json.loads(done.stdout)
    print(f"  {result['positions']} positions in {result['seconds']:.1f} s", file=sys.stderr)
    return result


def as_markdown(results: list[dict], device: torch.device, threads: int) -> str:
    peak = max(result["peak"] for result in results)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{threads} threads of {processor()}"
    lines = [
        f"Extraction on {where}, torch {torch.__version__}: {' × '.join(map(str, SIZE))} voxels of {SPACING} mm, "
        f"every {EVERY}th along each axis, {results[0]['total']:,} positions.",
        f"Peak of a matrix product: {peak / 1e9:,.0f} GFLOP/s.\n" if peak else "",
        "| descriptor | numbers | positions/s | all positions, s | share of network | preparation, s "
        "| MMAC a position | floor, s | efficiency | peak memory, MiB (before) |",
        "|" + " --- |" * 10,
    ]
    for r in results:
        rate = r["positions"] / r["seconds"]
        time_of_all = f"{r['total'] / rate:.1f}"
        time_of_all += "" if r["positions"] == r["total"] else f" (from {r['positions']:,})"
        floor = 2 * r["macs"] * r["total"] / peak if r["macs"] else 0.0
        memory = f"{r['memory'] / 2**20:,.0f} ({r['before'] / 2**20:,.0f})"
        memory += f", GPU {r['gpu_memory'] / 2**20:,.0f}" if r["gpu_memory"] else ""
        share, macs, floor_text, efficiency = (
            (
                f"{r['network'] / r['seconds']:.0%}",
                f"{r['macs'] / 1e6:.2f}",
                f"{floor:.1f}",
                f"{floor * rate / r['total']:.0%}",
            )
            if r["macs"]
            else ("—",) * 4
        )
        lines.append(
            f"| {r['name']} | {r['numbers']} | {rate:,.0f} | {time_of_all} | {share} | {r['preparation']:.2f} "
            f"| {macs} | {floor_text} | {efficiency} | {memory} |"
        )
    rates = {r["name"]: r["positions"] / r["seconds"] for r in results}
    for r in results:
        ours = rates.get(r["name"].removesuffix(REFERENCE))
        if r["difference"] is not None and ours:
            median, most = r["difference"]
            lines.append(
                f"\n{r['name'].removesuffix(REFERENCE)} is {ours / rates[r['name']]:.2f} times as fast as its "
                f"reference; their numbers differ by {median:.0e} standard deviations (median; most: {most:.0e})."
            )
    return "\n".join(lines)


def processor() -> str:
    """The processor's name, where the system tells."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.is_file() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    main()
