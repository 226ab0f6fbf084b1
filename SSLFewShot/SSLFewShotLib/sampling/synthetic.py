"""Synthetic scans: random shapes with random contrasts, for descriptors that need nobody's data.

Random regions as in Hoffmann et al., "SynthMorph: learning contrast-invariant registration without acquired
images" (IEEE TMI 2022, section III-A), and contrastive views of them as in Dey et al., "Learning general-purpose
biomedical volume representations using randomized synthesis" (ICLR 2025). Beyond that: many small ellipsoids, some
of them hollow, and winding tubes, for organs, bones and vessels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from SSLFewShotLib.sampling.contrast import changed_contrast
from SSLFewShotLib.sampling.preparation import PreparedScan
from SSLFewShotLib.sampling.views import View, sampled

SIDE = 72
"""Voxels along each axis of a synthetic scan."""
STRONGLY_CHANGED = 0.35
"""How often a second view has another contrast altogether, as of another modality; else as of another scanner."""


@dataclass(frozen=True, kw_only=True)
class SyntheticScan(PreparedScan):
    """A map of regions, painted anew in every view.

    values: (K, J, I) numbers of regions, 0 being the air where there is any. brightness: (R,) of each region;
    mixture: (R, 3) how much of each texture it shows; textures: (3, K, J, I), fine to coarse; air: whether a body
    with air around it is shown.
    """

    brightness: np.ndarray
    mixture: np.ndarray
    textures: torch.Tensor
    air: bool

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> SyntheticScan:
        """Draw a scan."""
        axis = torch.arange(SIDE, dtype=torch.float32)
        places = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"))
        # Shapes are drawn in bent space, so that none is an exact ellipsoid.
        places = places + _noise(rng, 5, 3) * rng.uniform(1, 5) + _noise(rng, 12, 3) * rng.uniform(0.3, 1.5)
        regions, count = _tissues(rng)
        for _ in range(int(rng.integers(20, 90))):
            count = _add_ellipsoid(regions, count, places, rng)
        for _ in range(int(rng.integers(2, 9))):
            count = _add_tube(regions, count, places, rng)
        body = torch.ones_like(regions, dtype=torch.bool)
        if air := bool(rng.random() < 0.7):
            middle, radius = (
                torch.from_numpy(rng.uniform(*span, 3).astype(np.float32))[:, None, None, None] * SIDE
                for span in ((0.35, 0.65), (0.35, 0.8))
            )
            body = (((places - middle) / radius) ** 2).sum(dim=0) < 1
            regions = torch.where(body, regions + 1, 0)
            count += 1
        textures = torch.cat(
            [_noise(rng, SIDE // 2) * 0.6 + _noise(rng, SIDE) * 0.6, *(_noise(rng, SIDE // n) for n in (4, 8))]
        )
        brightness = rng.uniform(0, 1, count).astype(np.float32)
        if air:
            brightness[0] = 0
        strength = np.exp(rng.uniform(np.log(0.01), np.log(0.12), (count, 1)))
        mixture = (rng.standard_normal((count, 3)) * strength).astype(np.float32)
        ones = np.ones(3)
        return cls(
            values=regions.float(),
            body=body,
            origin=0 * ones,
            spacing=ones,
            unit=30 * ones,
            name="synthetic",
            brightness=brightness,
            mixture=mixture,
            textures=textures,
            air=air,
        )

    def painted(self, view: View, rng: np.random.Generator, strongly: bool) -> torch.Tensor:
        """(k, j, i) float32: what a scanner might show of a view, standardised within the body.

        strongly: with another contrast altogether.
        """
        regions = view.read_array(self.values, "nearest").long()
        brightness, mixture = self._contrast(rng, strongly)
        axes = [torch.arange(n, dtype=torch.float32) for n in view.size]
        k, j, i = torch.meshgrid(*axes, indexing="ij")
        where = view.sources(torch.stack([i, j, k], dim=-1).reshape(-1, 3))
        textures = sampled(self.textures, where).T.reshape(3, *view.size)
        shares = torch.from_numpy(mixture)[regions].movedim(-1, 0)
        values = torch.from_numpy(brightness)[regions] + (shares * textures).sum(dim=0)
        if rng.random() < 0.8:
            # Voxels at a border hold some of both sides.
            share = float(rng.uniform(0.3, 1))
            blurred = F.avg_pool3d(values[None, None], 3, 1, 1, count_include_pad=False)[0, 0]
            values = (1 - share) * values + share * blurred
        if rng.random() < 0.4:
            values = values * torch.exp(0.3 * float(rng.random()) * _noise(rng, 3, size=view.size)[0])
        values = changed_contrast(values, rng, 1.0)
        inside = values[regions > 0] if self.air and bool((regions > 0).any()) else values
        low, high = inside.flatten()[::7].quantile(torch.tensor([0.005, 0.995]))
        inside = inside.clamp(low, high)
        return (values.clamp(low, high) - inside.mean()) / inside.std().clamp(min=1e-3)

    def _contrast(self, rng: np.random.Generator, strongly: bool) -> tuple[np.ndarray, np.ndarray]:
        """(R,) brightness and (R, 3) mixture of one view."""
        if not strongly:
            noise = rng.normal(0, rng.uniform(0, 0.08), len(self.brightness))
            gain = np.exp(rng.normal(0, 0.3, (len(self.mixture), 1)))
            return (self.brightness + noise).astype(np.float32), (self.mixture * gain).astype(np.float32)
        kind = rng.random()
        if kind < 0.4:
            brightness = rng.uniform(0, 1, len(self.brightness))
        elif kind < 0.7:
            brightness = 1 - self.brightness
        else:
            brightness = np.abs(np.sin(self.brightness * rng.uniform(1, 5) + rng.uniform(0, 3)))
        mixture = self.mixture * rng.standard_normal((len(self.mixture), 1))
        if self.air and rng.random() < 0.7:
            brightness[0] = 0
        return brightness.astype(np.float32), mixture.astype(np.float32)


def _noise(
    rng: np.random.Generator, cells: int, channels: int = 1, size: tuple[int, int, int] = (SIDE,) * 3
) -> torch.Tensor:
    """(channels, K, J, I) smooth normal noise, `cells` independent values along each axis."""
    coarse = rng.standard_normal((1, channels, cells, cells, cells), dtype=np.float32)
    return F.interpolate(torch.from_numpy(coarse), size=size, mode="trilinear", align_corners=True)[0]


def _tissues(rng: np.random.Generator) -> tuple[torch.Tensor, int]:
    """(K, J, I) int64 large regions without gaps, and their number."""
    count = int(rng.integers(2, 7))
    coarse = _noise(rng, int(rng.integers(3, 6)), count)
    fine = _noise(rng, int(rng.integers(6, 14)), count) * float(rng.uniform(0.2, 0.8))
    return (coarse + fine).argmax(dim=0), count


def _add_ellipsoid(regions: torch.Tensor, count: int, places: torch.Tensor, rng: np.random.Generator) -> int:
    """Paint an ellipsoid, perhaps with a wall, over `regions`; returns the number of regions then."""
    middle = torch.from_numpy(rng.uniform(4, SIDE - 4, 3).astype(np.float32))
    radius = np.exp(rng.uniform(np.log(1.5), np.log(10))) * np.exp(rng.normal(0, 0.35, 3))
    radius = np.clip(radius, 1.3, 16)
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    # Bent space moves a shape by a few voxels.
    reach = int(radius.max() + 7)
    box = tuple(slice(max(0, int(m) - reach), min(SIDE, int(m) + reach + 1)) for m in middle)
    away = places[(slice(None), *box)] - middle[:, None, None, None]
    scaled = torch.einsum("ab,bkji->akji", torch.from_numpy((turn / radius).T.astype(np.float32)), away)
    inside = (scaled**2).sum(dim=0) < 1
    if rng.random() < 0.3:
        regions[box][inside] = count
        count += 1
        inside = ((scaled * float(rng.uniform(1.15, 1.6))) ** 2).sum(dim=0) < 1
    regions[box][inside] = count
    return count + 1


def _add_tube(regions: torch.Tensor, count: int, places: torch.Tensor, rng: np.random.Generator) -> int:
    """Paint a winding tube through all of `regions`; returns the number of regions then."""

    def column(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values.astype(np.float32))[:, None, None, None]

    start = column(rng.uniform(0, SIDE, 3))
    direction = rng.standard_normal(3)
    direction = column(direction / np.linalg.norm(direction))
    bend = column(rng.standard_normal(3) * rng.uniform(0, 12))
    radius = float(np.exp(rng.uniform(np.log(1.2), np.log(4))))
    along = (direction * (places - start)).sum(dim=0)
    line = start + direction * along + bend * torch.sin(along / float(rng.uniform(8, 30)))
    regions[((places - line) ** 2).sum(dim=0) < radius**2] = count
    return count + 1
