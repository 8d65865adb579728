"""A masked autoencoder (He et al. 2022, arXiv 2111.06377): what ViTPose's transformers are trained as before they see a
joint (Xu et al. 2022: pre-trained on crops of people alone they do about as well as with ImageNet).

Most patches of a crop are hidden. The transformer sees the others only (a quarter of the tokens, so a quarter of the
cost); a light decoder gets its tokens, a learned mask token in every hidden place, and all places, and paints the
pixels of the patches. Only the transformer is kept: `backbone.*` of its weights starts a ViTPose.

# differs from paper: no class token; the transformer's position table begins as the paper's fixed one and is learned,
# because ViTPose's is; its last norm is the pose model's too.

Legend: B crops of H x W pixels, patches of p x p, grid h x w, N = h w, V visible ones, C channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from posekit.input_spec import InputSpec
from posekit.models.experts import FeedForward
from posekit.models.vit import SIZES, Block, ViT
from posekit.models.windows import Attention

EPS = 1e-6


class MaskedAutoencoder(nn.Module):
    """See the module's docstring.

    Args:
        backbone: with full attention, over patches that do not overlap.
        crop_size: (width, height) in pixels, as the backbone's.
        hidden: share of the patches that the transformer does not see, in (0, 1).
        decoder_dim, decoder_depth, decoder_heads: of the decoder's blocks.
        normalised: the patches to be painted have mean 0 and variance 1 each (the paper's better targets).
    """

    num_keypoints = 0  # it predicts no pose

    def __init__(
        self,
        backbone: ViT,
        *,
        crop_size: tuple[int, int] = (192, 256),
        hidden: float = 0.75,
        decoder_dim: int = 512,
        decoder_depth: int = 8,
        decoder_heads: int = 16,
        normalised: bool = True,
    ) -> None:
        super().__init__()
        patch = backbone.patch_embed.proj.kernel_size[0]
        if backbone.stride != patch:
            raise ValueError(
                f"patches of {patch} pixels at stride {backbone.stride} overlap, so a hidden one could be read off its "
                "neighbours: pre-train with ratio=1, the weights start a model of ratio=2 as well"
            )
        if any(block.attn.window for block in backbone.blocks):
            raise ValueError("windows need all tokens of the grid: pre-train with attention='full', same weights")
        cells = backbone.grid[0] * backbone.grid[1]
        self.visible = round((1 - hidden) * cells)
        if not 0 < self.visible < cells:
            raise ValueError(f"hidden is {hidden!r}: of {cells} patches, some must be seen and some hidden")
        self.input, self.crop_size, self.stride = InputSpec(size=max(crop_size), fit="crop"), crop_size, patch
        self.backbone, self.normalised = backbone, normalised
        self.decoder_embed = nn.Linear(backbone.channels, decoder_dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_dim))
        self.decoder_blocks = nn.ModuleList(
            Block(dim, Attention(dim, decoder_heads), FeedForward(dim, 4 * dim), drop_path=0.0, eps=EPS)
            for dim in [decoder_dim] * decoder_depth
        )
        self.decoder_norm = nn.LayerNorm(decoder_dim, EPS)
        self.decoder_pred = nn.Linear(decoder_dim, 3 * patch * patch)
        self.register_buffer("decoder_places", places(backbone.grid, decoder_dim), persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear) and not name.startswith("backbone."):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.mask_token, std=0.02)
        with torch.no_grad():
            self.backbone.pos_embed.zero_()[:, 1:] = places(self.backbone.grid, self.backbone.channels)

    def forward(
        self, images: Tensor, padding_mask: Tensor | None = None, dataset: int | Tensor = 0
    ) -> dict[str, Tensor]:
        """Normalised crops (B, 3, H, W) -> what a reconstruction is judged by.

        `patches` (B, N, 3 p p) painted, `true_patches` likewise, `hidden` (B, N) bool. In training what is hidden is
        drawn from torch's CPU generator; in evaluation it is the same every time. `dataset`: as in ViTPose.

        Raises:
            ValueError: crops of another size.
        """
        tokens, grid = self.backbone.embed(images)
        if grid != self.backbone.grid:
            raise ValueError(f"crops of {images.shape[3]} x {images.shape[2]} pixels: pre-trained are {self.crop_size}")
        seen, hidden = draw(len(images), tokens.shape[1], self.visible, None if self.training else 0)
        seen, hidden = seen.to(tokens.device), hidden.to(tokens.device)
        features = self.backbone.encode(_pick(tokens, seen), grid, dataset)
        return {
            "patches": self.paint(features, seen, grid), "true_patches": self.true_patches(images), "hidden": hidden,
        }  # fmt: skip

    def paint(self, features: Tensor, seen: Tensor, grid: tuple[int, int]) -> Tensor:
        """The decoder: features (B, V, C) of the visible patches `seen` (B, V) -> all patches (B, N, 3 p p)."""
        features = self.decoder_embed(features)
        tokens = self.mask_token.to(features.dtype).expand(len(features), self.decoder_places.shape[1], -1)
        tokens = tokens.scatter(1, _index(seen, features.shape[2]), features) + self.decoder_places
        for block in self.decoder_blocks:
            tokens = block(tokens, grid)
        return self.decoder_pred(self.decoder_norm(tokens))

    def true_patches(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, N, 3 p p), each patch normalised where the model asks for it."""
        patches = F.pixel_unshuffle(images.float(), self.stride).flatten(2).transpose(1, 2)
        if self.normalised:
            mean, variance = patches.mean(-1, keepdim=True), patches.var(-1, keepdim=True)
            patches = (patches - mean) / (variance + 1e-6).sqrt()
        return patches

    @torch.no_grad()
    def reconstruct(self, images: Tensor) -> dict[str, Tensor]:
        """For figures: normalised crops in, `painted` (B, 3, H, W) with the model's patches where they were hidden, in
        the colours of `images` (a normalised patch gets its own mean and spread back), and `hidden` (B, h, w)."""
        outputs, grid = self(images), self.backbone.grid
        patches, own = outputs["patches"].float(), F.pixel_unshuffle(images.float(), self.stride).flatten(2).mT
        if self.normalised:
            patches = patches * (own.var(-1, keepdim=True) + 1e-6).sqrt() + own.mean(-1, keepdim=True)
        patches = torch.where(outputs["hidden"][..., None], patches, own)
        painted = F.pixel_shuffle(patches.mT.unflatten(2, grid), self.stride)
        return {"painted": painted, "hidden": outputs["hidden"].unflatten(1, grid)}


def draw(crops: int, patches: int, visible: int, seed: int | None = None) -> tuple[Tensor, Tensor]:
    """(indices of the visible patches (crops, visible), hidden (crops, patches) bool), uniform, each crop its own.

    `seed` None: from torch's CPU generator, whose state a resumed run restores, whatever the device.
    """
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    seen = torch.rand(crops, patches, generator=generator).argsort(1)[:, :visible]
    return seen, torch.ones(crops, patches, dtype=torch.bool).scatter_(1, seen, False)


def places(grid: tuple[int, int], dim: int) -> Tensor:
    """Fixed places (1, N, dim) of the cells of a grid (rows, columns): sines and cosines, half of the channels for x,
    half for y; the longest wave is 10,000 x 2 pi cells.

    Raises:
        ValueError: `dim` is no multiple of 4.
    """
    if dim % 4:
        raise ValueError(f"{dim} channels cannot hold sine and cosine of x and y; choose a multiple of 4")
    waves = 10_000 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    rows, columns = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in grid), indexing="ij")
    angles = [axis.flatten()[:, None] * waves for axis in (columns, rows)]
    return torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], 1)[None].float()


def _index(seen: Tensor, channels: int) -> Tensor:
    return seen[..., None].expand(-1, -1, channels)


def _pick(tokens: Tensor, seen: Tensor) -> Tensor:
    """tokens (B, N, C), seen (B, V) -> (B, V, C)."""
    return tokens.gather(1, _index(seen, tokens.shape[2]))


def masked_autoencoder(
    size: str = "b",
    *,
    crop_size: tuple[int, int] = (192, 256),
    hidden: float = 0.75,
    decoder_dim: int = 512,
    decoder_depth: int = 8,
    decoder_heads: int = 16,
    normalised: bool = True,
    **backbone,
) -> MaskedAutoencoder:
    """The autoencoder of ViTPose-S, -B, -L or -H, with the paper's decoder; `backbone`: arguments of `ViT`.

    Paths are not dropped (paper). With the released patches (2 pixels of padding) what is painted lies 2 pixels from
    what a token sees.

    Raises:
        ValueError: an unknown size, or arguments that do not fit together.
    """
    if size not in SIZES:
        raise ValueError(f"there is no ViTPose of size {size!r}; choose one of {', '.join(SIZES)}")
    dim, depth, heads, _, part = SIZES[size]
    vit = ViT(crop_size=crop_size, **({"dim": dim, "depth": depth, "heads": heads, "part": part} | backbone))
    return MaskedAutoencoder(
        vit, crop_size=crop_size, hidden=hidden, decoder_dim=decoder_dim, decoder_depth=decoder_depth,
        decoder_heads=decoder_heads, normalised=normalised,
    )  # fmt: skip


def mae_tiny(**overrides) -> MaskedAutoencoder:
    """The autoencoder of `vitpose_tiny`: 12 of 48 patches are seen; the decoder has 64 channels and 2 blocks."""
    options = {
        "dim": 128, "depth": 4, "heads": 4, "mlp_ratio": 2.0, "patch": 12, "padding": 0, "crop_size": (72, 96),
        "part": 32, "decoder_dim": 64, "decoder_depth": 2, "decoder_heads": 4,
    } | overrides  # fmt: skip
    return masked_autoencoder("s", **options)
